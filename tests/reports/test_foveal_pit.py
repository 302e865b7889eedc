import numpy as np
import pytest

from embeddings_store.schema import Eye
from extract.phantom.anatomy import draw_pose
from extract.phantom.effect import Thinning
from extract.phantom.eye import draw_eye
from extract.phantom.render import Appearance
from extract.phantom.scan import Scan, make_scan, scan_seeds
from extract.phantom.scanners import PROTOCOLS
from reports.anatomy.foveal_pit import find_foveal_pit
from reports.anatomy.scan import ScanGeometry


def acquire(name: str, eye: Eye, participant: int = 1) -> tuple[Scan, ScanGeometry]:
    protocol = PROTOCOLS[name].scaled(0.3)
    scan = make_scan(
        draw_eye(1, participant, eye),
        protocol,
        scan_seeds(1, participant, name, eye),
        thinning=Thinning(),
        class_index=0,
        look=Appearance(0.0, 1.0),
    )
    spacing = (protocol.frame_mm, protocol.axial_mm, protocol.lateral_mm)
    return scan, ScanGeometry(*scan.voxels.shape, spacing, eye, name, "")


@pytest.mark.parametrize("eye", [Eye.LEFT, Eye.RIGHT])
@pytest.mark.parametrize("name", ["spectralis_ppol_mac_hr", "maestro2_3d_macula", "triton_3d_radial", "cirrus_mac"])
def test_the_pit_is_found_where_fixation_left_it(name: str, eye: Eye) -> None:
    scan, geometry = acquire(name, eye)
    pose = draw_pose(scan.protocol, np.random.default_rng(scan_seeds(1, 1, name, eye)))
    pit = find_foveal_pit(scan.voxels, geometry)
    assert pit is not None
    assert pit == pytest.approx((-pose.offset_mm[0], -pose.offset_mm[1]), abs=0.2)


def test_the_pit_moves_with_the_picture() -> None:
    scan, geometry = acquire("triton_3d_radial", Eye.RIGHT)
    before = find_foveal_pit(scan.voxels, geometry)
    columns = 10
    after = find_foveal_pit(np.roll(scan.voxels, columns, axis=2), geometry)
    assert before is not None
    assert after is not None
    assert after[0] - before[0] == pytest.approx(columns * scan.protocol.lateral_mm, abs=0.15)


@pytest.mark.parametrize("name", ["cirrus_disc", "maestro2_3d_wide"])
def test_no_pit_is_claimed_where_the_fovea_is_not_near_the_centre(name: str) -> None:
    scan, geometry = acquire(name, Eye.LEFT)
    assert find_foveal_pit(scan.voxels, geometry) is None


def test_noise_has_no_pit() -> None:
    voxels = np.random.default_rng(0).integers(0, 40, (24, 150, 60)).astype(np.uint8)
    geometry = ScanGeometry(24, 150, 60, (0.25, 0.009, 0.1), Eye.RIGHT, "triton_3d_radial", "")
    assert find_foveal_pit(voxels, geometry) is None
