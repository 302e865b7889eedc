"""What the tokens of a stored volume lie on, worked out from the embedding space and the size of the scan."""

import numpy as np

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.space import EmbeddingSpace
from extract.preset import Preset
from reports.anatomy.scan import ScanGeometry
from reports.anatomy.seen import WHOLE, Seen
from reports.cases.sources import Frames, spread_evenly


def see_tokens(space: EmbeddingSpace, grid: Grid, scan: ScanGeometry) -> Seen:
    """Say which part of a scan the tokens of a grid were made of.

    Raises: UsageError where they lie on no place of it: averaged slices, slices of one frame, axes that were swapped.
    """
    preset = Preset.from_dict(space.preset)
    if preset.move_long_axis and scan.frames > scan.columns:
        raise UsageError(f"the preset {preset.name} took the columns of this scan for frames: nothing is drawn on it")
    return seen_by(preset, space.image_size, space.patch, grid, scan)


def seen_by(preset: Preset, image_size: Grid, patch: Grid, grid: Grid, scan: ScanGeometry) -> Seen:
    """Say the same of an encoder's input. Raises: UsageError."""
    of_slices = patch[0] == 1
    if not of_slices and preset.crop is None and preset.margins is None:
        return WHOLE
    from extract.seen import seen_part, seen_slices  # with torch, which no other page of a probe needs

    rows, columns = seen_part(preset, image_size, scan.rows, scan.columns)
    if not of_slices:
        return Seen(None, rows, columns)
    depth = image_size[0]
    if grid[0] != depth:
        raise UsageError(
            f"the tokens are averages over {depth // grid[0]} neighbouring B-scans of {depth}, and between B-scans "
            f"nothing is claimed, so nothing is drawn; keep or ask for a token grid of {depth} slices"
        )
    frames = seen_slices(preset, depth, scan.frames)
    if len(np.unique(frames)) != depth:
        raise UsageError(f"the encoder saw {depth} slices of {scan.frames} frames, some twice: nothing is drawn")
    return Seen(frames, rows, columns)


def frames_to_show(seen: Seen) -> Frames | None:
    """Choose, of single B-scans that were seen, those for a page; None where whole scans were seen."""
    return None if seen.frames is None else seen.frames[spread_evenly(len(seen.frames))]
