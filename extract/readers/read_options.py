"""What a user says of a file; it stands alone, as a command's options need it before anything is loaded."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from embeddings_store.errors import UsageError

Axes: TypeAlias = tuple[str, str, str]
Colours: TypeAlias = Literal["refuse", "luma"]
FRAMES_FIRST: Final[Axes] = ("frames", "rows", "columns")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a user says of a file. array: its name in the file. axes: what the stored axes are, in their order.

    axes None: frames, rows, columns. colours: pictures whose channels differ are refused, or become their luma.
    Raises: UsageError.
    """

    array: str | None = None
    axes: Axes | None = None
    colours: Colours = "refuse"

    def __post_init__(self) -> None:
        if self.axes is not None and sorted(self.axes) != sorted(FRAMES_FIRST):
            raise UsageError(
                f"--axes: expected frames, rows and columns in the order of the file, each once, got "
                f"{','.join(map(str, self.axes))}"
            )

    @property
    def order(self) -> tuple[int, int, int]:
        """Places of frames, rows and columns among the stored axes."""
        axes = self.axes or FRAMES_FIRST
        return axes.index("frames"), axes.index("rows"), axes.index("columns")
