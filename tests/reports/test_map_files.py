import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from test_foveal_pit import acquire

from embeddings_store.errors import UsageError
from embeddings_store.schema import Eye
from extract.phantom.dicom_file import Identity, scan_dataset
from reports.anatomy.placement import find_placement
from reports.anatomy.scan import ScanGeometry
from reports.anatomy.token_map import token_points
from reports.cases.map_files import write_nifti, write_parametric_map

GRID = (6, 3, 5)


@pytest.fixture(scope="module")
def source() -> tuple[bytes, ScanGeometry]:
    scan, geometry = acquire("triton_3d_radial", Eye.LEFT)
    out = BytesIO()
    scan_dataset(scan, Identity("1001", 0)).save_as(out)
    return out.getvalue(), geometry


def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=GRID)


def test_nifti_keeps_values_and_places(tmp_path: Path, source: tuple[bytes, ScanGeometry]) -> None:
    import nibabel

    write_nifti(tmp_path / "map.nii.gz", values(), source[1])
    image = nibabel.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), values(), rtol=1e-6)
    assert nibabel.aff2axcodes(image.affine) == ("I", "P", "L")
    points = token_points(source[1], GRID[0], GRID[2], fine=1)
    right, _, superior = nibabel.affines.apply_affine(image.affine, (4, 1, 2))
    # A left eye: the patient's left is temporal, so nasal is right.
    assert right == pytest.approx(points.nasal_mm[4, 2, 0], abs=1e-6)
    assert superior == pytest.approx(points.superior_mm[4, 2, 0], abs=1e-6)
    assert list(tmp_path.iterdir()) == [tmp_path / "map.nii.gz"]


def test_the_parametric_map_names_its_source_and_keeps_its_geometry(
    tmp_path: Path, source: tuple[bytes, ScanGeometry]
) -> None:
    import highdicom

    path = tmp_path / "map.dcm"
    write_parametric_map(path, values(), source[1], source[0], "evidence for healthy, run x")
    volume = highdicom.imread(path).get_volume(apply_real_world_transform=False)
    affine = find_placement(source[1], None).of_tokens(source[1], GRID)
    corner = np.array([[0, 0, 0, 1], [5, 2, 4, 1]]).T
    there = volume.affine @ np.array([[0, 0, 0, 1], [s - 1 for s in volume.spatial_shape] + [1]]).T
    ends = {tuple(np.round(column, 6)) for column in (affine @ corner)[:3].T}
    assert {tuple(np.round(column, 6)) for column in there[:3].T} == ends
    found = volume.match_geometry(highdicom.VolumeGeometry(affine, GRID, "PATIENT", volume.frame_of_reference_uid))
    np.testing.assert_allclose(found.array, values(), rtol=1e-6)
    np.testing.assert_allclose(found.affine, affine, atol=1e-6)
    made, scan = pydicom.dcmread(path), pydicom.dcmread(BytesIO(source[0]))
    referenced = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referenced.ReferencedSOPInstanceUID == scan.SOPInstanceUID
    assert made.StudyInstanceUID == scan.StudyInstanceUID
    # The phantom says no positions: nothing is asserted about where both lie.
    assert made.FrameOfReferenceUID != scan.FrameOfReferenceUID


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_the_parametric_map_conforms(tmp_path: Path, source: tuple[bytes, ScanGeometry]) -> None:
    path = tmp_path / "map.dcm"
    write_parametric_map(path, values(), source[1], source[0], "evidence for healthy, run x")
    found = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    errors = [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")]
    assert errors == []


def test_no_millimetres_are_invented(tmp_path: Path, source: tuple[bytes, ScanGeometry]) -> None:
    radial = ScanGeometry(27, 496, 768, None, Eye.LEFT, "spectralis_onh_rc_hr", "frames are angles")
    with pytest.raises(UsageError, match="angles"):
        write_nifti(tmp_path / "map.nii.gz", values(), radial)
    with pytest.raises(UsageError, match="angles"):
        write_parametric_map(tmp_path / "map.dcm", values(), radial, source[0], "")
    assert list(tmp_path.iterdir()) == []


def placed(source: tuple[bytes, ScanGeometry], step_mm: float, orientation: list[float], frame: list[float]) -> bytes:
    """Write into a scan where each of its frames lies; frame: direction from one to the next."""
    header = pydicom.dcmread(BytesIO(source[0]))
    groups = [Dataset() for _ in range(int(header.NumberOfFrames))]
    for number, group in enumerate(groups):
        where = Dataset()
        where.ImagePositionPatient = [
            mm + number * step_mm * way for mm, way in zip((12.0, 40.0, -30.0), frame, strict=True)
        ]
        group.PlanePositionSequence = [where]
    header.PerFrameFunctionalGroupsSequence = groups
    told = Dataset()
    told.ImageOrientationPatient = orientation
    header.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = [told]
    out = BytesIO()
    header.save_as(out)
    return out.getvalue()


UPWARD = ([1.0, 0, 0, 0, 1, 0], [0.0, 0, 1])
DOWNWARD = ([-1.0, 0, 0, 0, 1, 0], [0.0, 0, -1])
TILTED = ([0.8, 0, 0.6, 0, 1, 0], [-0.6, 0, 0.8])


@pytest.mark.parametrize("orientation, frame", [UPWARD, DOWNWARD, TILTED])
def test_a_map_lies_where_the_file_says(
    tmp_path: Path, source: tuple[bytes, ScanGeometry], orientation: list[float], frame: list[float]
) -> None:
    import highdicom
    import nibabel

    scan, path = source[1], tmp_path / "map.dcm"
    assert scan.spacing_mm is not None
    data = placed(source, scan.spacing_mm[0], orientation, frame)
    write_parametric_map(path, values(), scan, data, "evidence for healthy, run x")
    write_nifti(tmp_path / "map.nii.gz", values(), scan, data)
    made, header = pydicom.dcmread(path), pydicom.dcmread(BytesIO(data))
    assert made.FrameOfReferenceUID == header.FrameOfReferenceUID
    # The corner tokens' centres, computed from the file alone: half a token in from the outermost voxels' edges.
    size, steps = np.array([scan.frames, scan.rows, scan.columns]), np.array(scan.spacing_mm)
    axes = np.array([frame, orientation[3:], orientation[:3]])
    for token in (np.zeros(3), np.array(GRID) - 1.0, np.array([2.0, 1.0, 3.0])):
        voxel = (token + 0.5) * size / GRID - 0.5
        expected = np.array([12.0, 40.0, -30.0]) + (voxel * steps) @ axes
        affine = nibabel.load(tmp_path / "map.nii.gz").affine
        np.testing.assert_allclose((affine @ [*token, 1])[:3] * [-1, -1, 1], expected, atol=1e-4)
        volume = highdicom.imread(path).get_volume(apply_real_world_transform=False)
        index = np.linalg.inv(volume.affine) @ [*expected, 1]
        place = tuple(np.rint(index[:3]).astype(int))
        np.testing.assert_allclose(index[:3], place, atol=1e-3)
        assert volume.array[place] == pytest.approx(values()[tuple(token.astype(int))], rel=1e-6)


@pytest.mark.parametrize("step, frame", [(1.0, [0.0, 0.6, 0.8]), (0.0, [0.0, 0, 1]), (np.nan, [0.0, 0, 1])])
def test_positions_that_make_no_raster_are_not_believed(
    tmp_path: Path, source: tuple[bytes, ScanGeometry], step: float, frame: list[float]
) -> None:
    scan = source[1]
    assert scan.spacing_mm is not None
    data = placed(source, step * scan.spacing_mm[0], UPWARD[0], frame)
    assert find_placement(scan, pydicom.dcmread(BytesIO(data))).frame_of_reference is None


def test_uneven_positions_are_not_believed(source: tuple[bytes, ScanGeometry]) -> None:
    header = pydicom.dcmread(BytesIO(placed(source, 0.24, *UPWARD)))
    assert find_placement(source[1], header).frame_of_reference is not None
    header.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient[2] += 0.1
    assert find_placement(source[1], header).frame_of_reference is None


def test_a_file_without_a_frame_of_reference_gets_one_of_its_own(
    tmp_path: Path, source: tuple[bytes, ScanGeometry]
) -> None:
    header, out = pydicom.dcmread(BytesIO(source[0])), BytesIO()
    del header.FrameOfReferenceUID
    header.save_as(out)
    write_parametric_map(tmp_path / "map.dcm", values(), source[1], out.getvalue(), "evidence")
    assert pydicom.dcmread(tmp_path / "map.dcm").FrameOfReferenceUID
