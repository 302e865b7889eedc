import numpy as np
import pytest

from embeddings_store.schema import Eye, Note
from extract.phantom.effect import SECTORS as PHANTOM_SECTORS
from extract.phantom.effect import sector_weight
from reports.anatomy.regions import OUTSIDE, SECTORS, axial_bands, en_face_regions, sector_of
from reports.anatomy.scan import ScanGeometry, scan_geometry
from reports.anatomy.token_map import EnFace, native_edges, to_native, token_points


def scan(eye: Eye = Eye.RIGHT, frames: int = 128, why: str = "") -> ScanGeometry:
    spacing = None if why else (6.0 / frames, 0.004, 6.0 / 512)
    return ScanGeometry(frames, 500, 512, spacing, eye, "triton_macula_6x6", why)


def test_the_sectors_are_those_in_which_the_phantom_plants_its_effect() -> None:
    nasal, superior = np.random.default_rng(0).uniform(-3.4, 3.4, (2, 4000))
    named = np.array([*SECTORS, OUTSIDE])[sector_of(EnFace(nasal, superior), (0.0, 0.0))]
    assert set(PHANTOM_SECTORS) == set(SECTORS)
    for sector in SECTORS:
        planted = sector_weight(sector, nasal, superior) > 0
        assert planted.any()
        assert (named[planted] == sector).all()


@pytest.mark.parametrize("eye", [Eye.LEFT, Eye.RIGHT])
def test_nasal_lies_to_the_right_of_a_right_eye_and_to_the_left_of_a_left_one(eye: Eye) -> None:
    regions = en_face_regions(scan(eye), (32, 4, 32))
    middle_row = regions.label[16, 0]
    edge = -1 if eye is Eye.RIGHT else 0
    assert regions.names[middle_row[edge]] == "outer-nasal"
    assert regions.names[middle_row[-1 - edge]] == "outer-temporal"


def test_the_first_frame_is_superior() -> None:
    regions = en_face_regions(scan(), (32, 4, 32))
    assert regions.names[regions.label[0, 0, 16]] == "outer-superior"
    assert regions.names[regions.label[-1, 0, 16]] == "outer-inferior"


def test_a_grid_of_sectors_moves_with_the_foveal_pit() -> None:
    pit_mm = (0.9, -0.6)
    regions = en_face_regions(scan(), (64, 2, 64), pit_mm)
    points = token_points(scan(), 64, 64, fine=1)
    centre = regions.label[:, 0, :] == SECTORS.index("centre")
    assert points.nasal_mm[:, :, 0][centre].mean() == pytest.approx(pit_mm[0], abs=0.06)
    assert points.superior_mm[:, :, 0][centre].mean() == pytest.approx(pit_mm[1], abs=0.06)
    assert "pit" in regions.centred_on


def test_a_coarse_grid_says_which_sectors_hold_no_token() -> None:
    coarse = en_face_regions(scan(), (2, 1, 2))
    assert "centre" in coarse.empty
    assert en_face_regions(scan(), (64, 1, 64)).empty == ()


def test_a_scan_without_raster_is_divided_into_ninths_that_say_why() -> None:
    regions = en_face_regions(scan(Eye.LEFT, why="the file does not tell the spacing"), (16, 2, 6))
    assert regions.kind == "ninths"
    assert len(regions.names) == 9
    assert np.bincount(regions.label.ravel()).min() > 0
    assert "spacing" in regions.centred_on
    assert "nasal" in regions.names[regions.label[0, 0, 0]]  # a left eye


def test_bands_are_image_rows_in_order() -> None:
    label = axial_bands((2, 7, 3)).label
    assert (np.diff(label[0, :, 0]) >= 0).all()
    assert set(label.ravel().tolist()) == {0, 1, 2}


def index_line(**changes: object) -> dict[str, object]:
    line: dict[str, object] = {"frames": 128, "rows": 885, "columns": 512, "eye": "L", "protocol": "maestro2_3d_macula"}
    line |= {"spacing_frame_mm": 0.0469, "spacing_axial_mm": 0.0026, "spacing_lateral_mm": 0.0117, "notes": 0}
    return line | changes


def test_geometry_is_read_from_a_snapshots_index() -> None:
    read = scan_geometry(index_line())
    assert read.spacing_mm == (0.0469, 0.0026, 0.0117)
    assert read.width_mm == pytest.approx(512 * 0.0117)
    assert read.height_mm == pytest.approx(128 * 0.0469)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spacing_frame_mm": float("nan")}, "does not tell"),
        ({"notes": int(Note.SPACING_UNRELIABLE)}, "known to be wrong"),
        ({"protocol": "spectralis_onh_rc_hr"}, "angles"),
    ],
)
def test_places_in_mm_are_refused_where_they_would_be_invented(changes: dict[str, object], reason: str) -> None:
    read = scan_geometry(index_line(**changes))
    assert read.spacing_mm is None
    assert reason in read.why_no_raster
    with pytest.raises(ValueError, match="raster"):
        token_points(read, 4, 4, fine=1)


def test_painting_over_stored_voxels_keeps_each_token_within_its_edges() -> None:
    values = np.arange(2 * 3 * 4, dtype=np.float64).reshape(2, 3, 4)
    painted = to_native(values, (61, 30, 40))
    edges = native_edges(2, 61)
    assert painted.shape == (61, 30, 40)
    assert painted[0, 0, 0] == values[0, 0, 0]
    assert painted[-1, -1, -1] == values[-1, -1, -1]
    first_slab = np.arange(61) + 0.5 < edges[1]
    assert (painted[first_slab] < 12).all()
    assert (painted[~first_slab] >= 12).all()
