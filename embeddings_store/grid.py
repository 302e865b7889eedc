"""Three counts along depth, height and width: of voxels, of a patch, or of tokens."""

from typing import TypeAlias

Grid: TypeAlias = tuple[int, int, int]
