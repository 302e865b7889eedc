"""What the back ends have in common that compute each operator as it is called."""

from collections.abc import Mapping


class Eager:
    """Nothing is put off, nothing is compiled, and shapes are free."""

    static_shapes = False

    def launch(self) -> None:
        """Do nothing: the computation is on its way already."""

    def compilations(self) -> int:
        """Give 0."""
        return 0

    def fallbacks(self) -> Mapping[str, int]:
        """Give none: an operator that the device lacks is an error here."""
        return {}
