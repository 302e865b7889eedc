"""What of each stored frame the encoder may see: margins are cut off, rectangles set to 0 (burnt-in text)."""

from dataclasses import replace

from extract.errors import PreprocessError
from extract.preset import Edges, Preset
from extract.volume import Volume


def cut_frames(volume: Volume, preset: Preset) -> Volume:
    """Mask, then cut the decoded frames as the preset says; without either, the volume is given back as it is.

    Raises PreprocessError for a rectangle that is empty or leaves the frame, and for margins that leave nothing.
    """
    voxels = volume.voxels.copy() if preset.mask else volume.voxels
    _, rows, columns = voxels.shape
    for edges in preset.mask:
        top, bottom, left, right = edge_pixels(edges, rows, columns)
        if not (top < bottom <= rows and left < right <= columns):
            raise PreprocessError(f"{volume.source}: mask {_text(edges)}: no rectangle of frames of {rows} x {columns}")
        voxels[:, top:bottom, left:right] = 0
    if preset.margins is not None:
        top, bottom, left, right = edge_pixels(preset.margins, rows, columns)
        if top + bottom >= rows or left + right >= columns:
            raise PreprocessError(
                f"{volume.source}: crop {_text(preset.margins)} leaves nothing of frames of {rows} x {columns}"
            )
        voxels = voxels[:, top : rows - bottom, left : columns - right]
    return replace(volume, voxels=voxels)


def edge_pixels(edges: Edges, rows: int, columns: int) -> tuple[int, int, int, int]:
    """Give edges in pixels of a frame of this many rows and columns."""
    sides = (rows, rows, columns, columns)
    top, bottom, left, right = (
        round(edge * side) if isinstance(edge, float) else edge for edge, side in zip(edges, sides, strict=True)
    )
    return top, bottom, left, right


def _text(edges: Edges) -> str:
    return ",".join(map(str, edges))
