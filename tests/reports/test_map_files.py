import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from test_foveal_pit import acquire

from embeddings_store.errors import UsageError
from embeddings_store.schema import Eye
from extract.phantom.dicom_file import Identity, scan_dataset
from reports.anatomy.affine import token_affine_lps
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
    affine = token_affine_lps(source[1], GRID)
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
    assert made.FrameOfReferenceUID == scan.FrameOfReferenceUID


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
