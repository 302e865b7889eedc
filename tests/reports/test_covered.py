"""Maps of slices and of parts of frames: planted in one place of one B-scan, seen there and nowhere else."""

import io
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.schema import Eye, Note
from embeddings_store.space import EmbeddingSpace
from extract.pictures import even_frames
from extract.preprocess import frame_chooser, preprocess
from extract.preset import PRESETS, Edges, Preset
from extract.seen import seen_part
from extract.volume import Volume
from reports.anatomy.regions import SECTORS, axial_bands, en_face_regions
from reports.anatomy.scan import ScanGeometry
from reports.anatomy.seen import WHOLE, Seen
from reports.attribution.heat_map import HeatMap
from reports.cases.covered import frames_to_show, see_tokens
from reports.cases.images import Canvas, draw_scan
from reports.cases.map_files import write_nifti
from reports.cases.scans import ScanCase
from reports.cases.view import view_scan

FRAMES, ROWS, COLUMNS = 40, 100, 150
SCAN = ScanGeometry(FRAMES, ROWS, COLUMNS, (0.15, 0.02, 0.04), Eye.RIGHT, "cirrus_mac", "")
PATCH = 16
TOP, LEFT, SIDE = 40, 66, 12
"""Of the planted square, in stored pixels: inside what every preset here shows."""


def volume(voxels: np.ndarray) -> Volume:
    return Volume(
        voxels, np.arange(len(voxels)), len(voxels), None, (1.0, 0.0), Eye.RIGHT, "cirrus_mac", "d", "s", Note(0)
    )


def space_of(preset: Preset, size: Grid, patch: Grid) -> EmbeddingSpace:
    grid = (size[0] // patch[0], size[1] // patch[1], size[2] // patch[2])
    return EmbeddingSpace("f", "0" * 64, size, patch, 8, 1, 1, preset.to_dict(), ("last",), ("mean",), grid, "fp32")


def planted_map(preset: Preset, size: Grid, patch: Grid, frame: int) -> np.ndarray:
    """Give how much each token's own voxels change where one square of one stored frame is made bright."""
    blank = np.full((FRAMES, ROWS, COLUMNS), 50, np.uint8)
    blank[:, ::2] = 60  # no constant frame
    bright = blank.copy()
    bright[frame, TOP : TOP + SIDE, LEFT : LEFT + SIDE] = 250
    depth, height, width = (side // step for side, step in zip(size, patch, strict=True))
    a, b = (preprocess(volume(one), preset, size)[0] for one in (blank, bright))
    moved = np.abs(b - a).reshape(depth, patch[0], height, patch[1], width, patch[2]).mean((1, 3, 5))
    return np.where(moved > 0.3 * moved.max(), moved, 0.0).astype(np.float64)


def opacity(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(b64decode(uri.split(",")[1]))))[..., 3]


def middle(painted: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    rows, columns = np.nonzero(painted)
    height, width = painted.shape
    return (rows.mean() + 0.5) / height * size[0], (columns.mean() + 0.5) / width * size[1]


@pytest.mark.parametrize("name", ["retfound", "mirage", "imagenet", "siglip", "visionfm", "retfound_notebook"])
@pytest.mark.parametrize(("margins", "at"), [(None, 0), ((10, 0, 0.0, 0.2), 3)])
def test_a_map_of_slices_lies_on_its_own_bscan(name: str, margins: Edges | None, at: int) -> None:
    size, patch = (9, 96, 96), (1, PATCH, PATCH)
    preset = replace(PRESETS[name], slices=9, per_slice=None, margins=margins)
    encoded = even_frames(FRAMES, 9)
    seen = see_tokens(space_of(preset, size, patch), (9, 6, 6), SCAN)
    shown = frames_to_show(seen)
    assert shown is not None
    assert shown.tolist() == encoded.tolist()
    values = planted_map(preset, size, patch, int(encoded[at]))
    assert np.nonzero(values)[0].tolist() == [at] * np.count_nonzero(values) != []
    drawn = draw_scan(np.zeros((9, ROWS, COLUMNS), np.uint8), shown, FRAMES, [HeatMap("m", "m", values)], {}, seen)
    for number, heat in zip(drawn.frames, drawn.layers[0].heats, strict=True):
        assert opacity(heat).any() == (number == encoded[at] + 1)
    token = PATCH / 96 * np.array([ROWS, COLUMNS])
    row, column = middle(opacity(drawn.layers[0].heats[at]), (ROWS, COLUMNS))
    assert abs(row - (TOP + SIDE / 2)) < token[0] / 2 + 3
    assert abs(column - (LEFT + SIDE / 2)) < token[1] / 2 + 3
    en_face = opacity(drawn.layers[0].en_face)
    assert en_face.shape[0] == FRAMES
    assert np.nonzero(en_face.any(axis=1))[0].tolist() == [encoded[at]]
    assert abs(middle(en_face, (FRAMES, COLUMNS))[1] - column) < 2
    everything = Canvas(np.arange(FRAMES), (FRAMES, ROWS, COLUMNS), seen).draw(HeatMap("m", "m", values), 1.0)
    assert [number for number, heat in enumerate(everything.heats) if opacity(heat).any()] == [encoded[at]]


def test_a_cropped_volume_has_its_map_where_it_was_seen() -> None:
    size, patch = (8, 96, 96), (2, PATCH, PATCH)
    preset = PRESETS["vjepa2"]
    seen = see_tokens(space_of(preset, size, patch), (4, 6, 6), SCAN)
    assert seen.frames is None
    assert seen.columns[0] == pytest.approx(1 - seen.columns[1], abs=0.01)
    frame = int(even_frames(FRAMES, 8)[5])
    values = planted_map(preset, size, patch, frame)
    numbers = np.arange(FRAMES)
    drawn = draw_scan(
        np.zeros((FRAMES, ROWS, COLUMNS), np.uint8), numbers, FRAMES, [HeatMap("m", "m", values)], {}, seen
    )
    hot = [number - 1 for number, heat in zip(drawn.frames, drawn.layers[0].heats, strict=True) if opacity(heat).any()]
    assert hot == list(range(20, 30))  # the third of four slabs, which frame 25 belongs to
    row, column = middle(opacity(drawn.layers[0].heats[frame]), (ROWS, COLUMNS))
    assert (row, column) == pytest.approx((TOP + SIDE / 2, LEFT + SIDE / 2), abs=10)


@pytest.mark.parametrize("name", ["retfound", "mirage", "vjepa2"])
@pytest.mark.parametrize("shape", [(100, 150), (150, 90), (97, 201)])
@pytest.mark.parametrize("margins", [None, (10, 4, 0.0, 0.2)])
def test_the_part_that_was_seen_is_known_to_a_pixel(name: str, shape: tuple[int, int], margins: Edges | None) -> None:
    """A frame whose grey level is its own row or column: what comes out says where it was taken."""
    preset = replace(PRESETS[name], mean=None, std=None, channels=1, per_slice=None, scale=None, margins=margins)
    preset = replace(preset, slices=1 if preset.slices else None)
    for axis, span in enumerate(seen_part(preset, (1, 64, 64), *shape)):
        side = shape[axis]
        ramp = np.broadcast_to(np.arange(side, dtype=np.uint8)[:, None] if axis == 0 else np.arange(side), shape)
        seen = preprocess(volume(ramp[None].astype(np.uint8)), preset, (1, 64, 64))[0, 0].mean(axis=1 - axis)
        wanted = (span[0] + (np.arange(64) + 0.5) / 64 * (span[1] - span[0])) * side - 0.5
        assert np.abs(seen - wanted)[3:-3].max() < 0.75


def test_what_lies_on_no_place_is_refused() -> None:
    slices = replace(PRESETS["mirage"], slices=8)
    with pytest.raises(UsageError, match="averages over 2 neighbouring B-scans of 8"):
        see_tokens(space_of(slices, (8, 64, 64), (1, 16, 16)), (4, 4, 4), SCAN)
    with pytest.raises(UsageError, match="8 slices of 5 frames, some twice"):
        see_tokens(space_of(PRESETS["vjepa2"], (8, 64, 64), (1, 16, 16)), (8, 4, 4), replace(SCAN, frames=5))
    with pytest.raises(UsageError, match="took the columns of this scan for frames"):
        see_tokens(space_of(PRESETS["finetune_v0"], (8, 64, 64), (2, 16, 16)), (4, 4, 4), replace(SCAN, frames=151))
    assert see_tokens(space_of(PRESETS["octcube"], (6, 64, 64), (3, 16, 16)), (2, 4, 4), SCAN) is WHOLE


def test_blended_slices_lie_on_frames_that_were_decoded() -> None:
    """A slice encoder trained further with the preset that blends frames: the nearer of two frames is shown."""
    seen = see_tokens(space_of(PRESETS["pretrain"], (16, 64, 64), (1, 16, 16)), (16, 4, 4), SCAN)
    assert seen.frames is not None
    choose = frame_chooser(PRESETS["pretrain"], 16)
    assert choose is not None
    assert set(seen.frames.tolist()) <= set(choose(FRAMES).tolist())
    assert np.abs(seen.frames - ((np.arange(16) + 0.5) * FRAMES / 16 - 0.5)).max() <= 0.5


def test_at_most_24_of_many_slices_are_shown() -> None:
    seen = Seen(np.arange(0, 120, 3))
    shown = frames_to_show(seen)
    assert shown is not None
    assert len(shown) == 24
    assert set(shown.tolist()) <= set(seen.frames.tolist() if seen.frames is not None else [])


def test_regions_count_tokens_where_they_lie() -> None:
    """Three B-scans above the centre: no token may be called inferior, though three slabs span a whole scan."""
    seen = Seen(np.array([4, 9, 14]), columns=(0.25, 0.75))
    regions = en_face_regions(SCAN, (3, 2, 6), seen=seen)
    held = {regions.names[number] for number in np.unique(regions.label)}
    assert not held & {"inner-inferior", "outer-inferior"}
    assert held & {"outer-superior", SECTORS[0], "inner-superior"}
    ninths = en_face_regions(replace(SCAN, spacing_mm=None, why_no_raster="none"), (3, 2, 6), seen=seen)
    assert {ninths.names[number] for number in np.unique(ninths.label)} == {
        f"frames {part}, {side}" for part in ("1-14", "15-27") for side in ("temporal", "middle", "nasal")
    }
    assert axial_bands((3, 4, 6), Seen(rows=(0.0, 0.5))).empty == ("lower rows",)


@pytest.mark.parametrize("frames", [19, 25, 40, 49, 61, 97])
def test_a_frame_lies_in_the_slab_that_its_region_is_called_by(frames: int) -> None:
    scan = ScanGeometry(frames, ROWS, COLUMNS, None, Eye.RIGHT, "", "none")
    found = en_face_regions(scan, (frames, 1, 3), seen=Seen(np.arange(frames)))
    for place in range(frames):
        low, high = found.names[found.label[place, 0, 0]].partition(",")[0].removeprefix("frames ").split("-")
        assert int(low) <= place + 1 <= int(high)


def test_files_and_captions_claim_nothing_between_slices(tmp_path: Path) -> None:
    seen = Seen(np.array([4, 20, 36]), columns=(0.2, 0.8))
    values = np.arange(1.0, 19.0).reshape(3, 2, 3)
    write_nifti(tmp_path / "map.nii.gz", values, SCAN, None, seen)
    image = nibabel.load(tmp_path / "map.nii.gz")
    kept = image.get_fdata()
    assert kept.shape == (FRAMES, 2, 3)
    assert np.flatnonzero(~np.isnan(kept).all(axis=(1, 2))).tolist() == [4, 20, 36]
    np.testing.assert_allclose(kept[[4, 20, 36]], values)
    along = np.linalg.norm(image.affine[:3, 2])
    assert along == pytest.approx(0.6 * COLUMNS * 0.04 / 3)
    case = ScanCase({"protocol": "p", "eye": "R"}, SCAN, None, "", None, "", None, seen=seen)
    assert "claimed" not in view_scan(case).caption  # there is no map
