"""What the back ends have in common that compute each operator as it is called."""

from collections.abc import Mapping

import torch


class Eager:
    """Nothing is put off, nothing is compiled, and shapes are free."""

    static_shapes = False

    def launch(self) -> None:
        """Do nothing: the computation is on its way already."""

    def free_memory_bytes(self) -> int | None:
        """Give None: memory of the host is shared with everything else on it."""
        return None

    def is_out_of_memory(self, error: RuntimeError) -> bool:
        """Tell by torch's own class."""
        return isinstance(error, torch.OutOfMemoryError)

    def forget_freed(self) -> None:
        """Do nothing: the host's allocator gives memory back by itself."""

    def compilations(self) -> int:
        """Give 0."""
        return 0

    def fallbacks(self) -> Mapping[str, int]:
        """Give none: an operator that the device lacks is an error here."""
        return {}
