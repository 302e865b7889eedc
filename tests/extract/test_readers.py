"""Every reader keeps to the contract: the same stack in every kind of file is the same volume."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from dicom_files import layered_volume, make_file
from PIL import Image
from reader_contract import ReaderContract
from scan_files import (
    SPACING,
    as_folder,
    as_mat,
    as_mat73,
    as_mha,
    as_nifti,
    as_nifti_gz,
    as_npy,
    as_npz,
    as_nrrd,
    as_picture,
    as_series,
    as_tiff,
)
from vendor_files import make_bioptigen, make_cirrus, make_e2e, make_heyex_xml, make_topcon, make_vol

from embeddings_store.schema import Eye, Note
from extract.errors import ScanError
from extract.readers.contract import ScanFile
from extract.readers.heyex_grey import E2E_EMPTY, to_grey, unpack_float16
from extract.readers.natural import missing_numbers, natural_key
from extract.readers.open import companions, read_scan, volumes_in
from extract.readers.read_options import ReadOptions

MATLAB_ORDER = ReadOptions(axes=("rows", "columns", "frames"))


class TestDicom(ReaderContract):
    kind = "DICOM"

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("a/scan.dcm", make_file(voxels))]


class TestDicomSeries(ReaderContract):
    kind = "DICOM"
    spacing = SPACING

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return as_series(voxels)

    def judge(self, files: list[ScanFile], voxels: np.ndarray, *, flipped: bool = False) -> None:
        """A header's numbers have no checksum either: another position is another order."""
        super().judge(files, voxels, flipped=flipped)


class TestPng(ReaderContract):
    kind, checked = "pictures (PNG, JPEG, BMP, TIFF)", True

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return as_folder(voxels)


class TestPng16(TestPng):
    def voxels(self) -> np.ndarray:
        return layered_volume(3, 16, 12, "uint16")


class TestBmp(TestPng):
    checked = False

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return as_folder(voxels, "BMP", "bmp")


class TestTiffPages(TestPng):
    checked = False

    def voxels(self) -> np.ndarray:
        return layered_volume(5, 16, 12, "uint16")

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.tiff", as_tiff(voxels))]


class TestNpy(ReaderContract):
    kind = "NumPy array"

    def voxels(self) -> np.ndarray:
        return layered_volume(5, 16, 12, "int16")

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.npy", as_npy(voxels))]


class TestFortranNpy(TestNpy):
    options = ReadOptions(axes=("columns", "frames", "rows"))

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.npy", as_npy(np.asfortranarray(voxels.transpose(2, 0, 1))))]


class TestNpz(ReaderContract):
    kind, checked = "NumPy archive (.npz)", True

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.npz", as_npz(oct_bscans=voxels, glaucoma=1, slo=voxels[0], md=np.float32(-1.5)))]


class TestMatlab(ReaderContract):
    kind, checked, options = "MATLAB file", False, MATLAB_ORDER

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.mat", as_mat(images=voxels.transpose(1, 2, 0), Age=[[66]]))]


class TestMatlabHdf5(ReaderContract):
    kind, options = "MATLAB file (HDF5)", MATLAB_ORDER

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        pytest.importorskip("h5py")
        return [ScanFile("scan.mat", as_mat73(images=voxels.transpose(1, 2, 0), Age=np.array([[66.0]])))]


class TestNifti(ReaderContract):
    kind, spacing = "NIfTI", SPACING

    def voxels(self) -> np.ndarray:
        return layered_volume(5, 16, 12, "float32")

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.nii", as_nifti(voxels))]


class TestNiftiGz(TestNifti):
    checked, by_content = True, False

    def voxels(self) -> np.ndarray:
        return layered_volume(5, 16, 12, "int16")

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.nii.gz", as_nifti_gz(voxels))]


class TestMetaImage(ReaderContract):
    kind, spacing = "MetaImage", SPACING

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        head = as_mha(voxels, ElementDataFile="oct.raw")
        return [ScanFile("a/oct.mhd", head), ScanFile("a/oct.raw", voxels.tobytes())]


class TestMetaImagePacked(TestMetaImage):
    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("oct.mha", as_mha(voxels, packed=True))]


class TestNrrd(ReaderContract):
    kind, spacing = "NRRD", SPACING

    def voxels(self) -> np.ndarray:
        return layered_volume(5, 16, 12, "uint16")

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("oct.nrrd", as_nrrd(voxels))]


class TestNrrdPacked(TestNrrd):
    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("oct.nrrd", as_nrrd(voxels, packed=True))]


class TestHeyexVol(ReaderContract):
    kind, eye, spacing = "Heidelberg .vol", Eye.LEFT, SPACING

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.vol", make_vol(voxels))]


class TestHeyexE2e(ReaderContract):
    kind, eye = "Heidelberg .e2e", Eye.RIGHT

    def voxels(self) -> np.ndarray:
        return to_grey(unpack_float16(self.words()), E2E_EMPTY, "test")

    def words(self) -> np.ndarray:
        return np.random.default_rng(0).integers(45 << 10, 65 << 10, (5, 16, 12)).clip(0, 65535).astype(np.uint16)

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.e2e", make_e2e([(b"R", self.words())]))]


class TestHeyexXml(ReaderContract):
    kind, eye, spacing = "Heidelberg XML", Eye.RIGHT, SPACING

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        names = [f"{7 * number % 97:03}.png" for number in range(len(voxels))]
        pictures = [ScanFile(name, as_picture(frame, "PNG")) for name, frame in zip(names, voxels, strict=True)]
        return [ScanFile("export.xml", make_heyex_xml(names)), *pictures]


class TestTopconFda(ReaderContract):
    kind, eye, spacing = "Topcon .fda, .fds", Eye.LEFT, (1.2, 0.0026, 0.5)

    def voxels(self) -> np.ndarray:
        return layered_volume(5, 16, 12, "uint16")

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.fda", make_topcon(voxels))]


class TestTopconFds(TestTopconFda):
    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("scan.fds", make_topcon(voxels, fds=True))]


class TestTopconCompressed(TestTopconFda):
    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        import imagecodecs

        streams = [imagecodecs.jpeg2k_encode(frame, level=0, reversible=True) for frame in voxels]
        return [ScanFile("scan.fda", make_topcon(voxels, streams))]


class TestCirrusImg(ReaderContract):
    kind, by_content = "Zeiss Cirrus .img", False
    eye, spacing = Eye.RIGHT, (6 / 4, 2 / 1024, 6 / 8)

    def voxels(self) -> np.ndarray:
        return layered_volume(4, 1024, 8)

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("PX_Macular Cube 8x4_1-2-2020_3-4-5_OD_sn1_cube_raw.img", make_cirrus(voxels))]


class TestBioptigen(ReaderContract):
    kind, eye, spacing = "Bioptigen .OCT", Eye.LEFT, (1.0, 3.4 / 16, 10 / 12)

    def voxels(self) -> np.ndarray:
        return layered_volume(5, 16, 12, "uint16")

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        return [ScanFile("12_OS_rect.OCT", make_bioptigen(voxels[None]))]


def test_several_volumes_of_a_file_come_with_their_eyes() -> None:
    words = np.full((3, 8, 6), 60 << 10, np.uint16)
    e2e = [ScanFile("x.E2E", make_e2e([(b"R", words), (b"L", words[:2] + 5)], multiple=True))]
    assert [(one.eye, one.label) for one in volumes_in(e2e)] == [(Eye.RIGHT, "1"), (Eye.LEFT, "2")]
    assert [read_scan(e2e, number=n).frame_count for n in (0, 1)] == [3, 2]
    several = np.stack([layered_volume(3, 8, 6, "uint16", seed) for seed in (0, 1)])
    file = [ScanFile("x.OCT", make_bioptigen(several))]
    assert len(volumes_in(file)) == 2
    for number in (0, 1):
        np.testing.assert_array_equal(read_scan(file, number=number).voxels, several[number])


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (as_series(layered_volume(6, 8, 8), skip=3), Note.SLICES_MISSING),
        (as_series(layered_volume(6, 8, 8), positions=False, skip=3), Note.SLICES_MISSING),
        ([one for one in as_folder(layered_volume(6, 8, 8)) if "4_" not in one.name], Note.SLICES_MISSING),
        ([ScanFile("a.e2e", make_e2e([(b"R", np.full((2, 8, 6), 61440, np.uint16))], missing=2))], Note.SLICES_MISSING),
        ([ScanFile("a.npy", as_npy(layered_volume(40, 8, 8)))], Note.AXES_DOUBTFUL),
        ([ScanFile("a.npy", as_npy(np.stack([layered_volume(4, 8, 8)] * 3, axis=-1)))], Note.GREY_AS_RGB),
        ([ScanFile("a.npy", as_npy(np.full((4, 8, 8), 7, np.uint8)))], Note.CONSTANT),
    ],
)
def test_what_is_odd_is_noted(files: list[ScanFile], note: Note) -> None:
    assert read_scan(files).notes & note


def test_a_series_without_gaps_notes_none_and_numbers_order_it_too() -> None:
    voxels = layered_volume(6, 8, 8)
    assert not read_scan(as_series(voxels)).notes & Note.SLICES_MISSING
    by_number = read_scan(as_series(voxels, positions=False))
    np.testing.assert_array_equal(by_number.voxels, voxels)
    assert not by_number.notes & Note.SLICES_MISSING


def test_names_sort_as_numbers() -> None:
    assert sorted(["10.png", "2.png", "1.png"], key=natural_key) == ["1.png", "2.png", "10.png"]
    assert missing_numbers(["a_1.png", "a_2.png", "a_5.png"]) == [3, 4]
    assert missing_numbers(["1_7.png", "2_9.png"]) == missing_numbers(["x.png", "y.png"]) == []


def test_labels_that_lie_beside_the_scan() -> None:
    data = as_npz(oct=layered_volume(4, 8, 8), grade=2, word="early.dry", md=np.array([-1.5]), slo=np.zeros((4, 4)))
    (inside,) = volumes_in([ScanFile("x.npz", data)])
    assert inside.labels == {"grade": 2.0, "word": "early.dry", "md": -1.5}


def test_a_header_names_its_pixels() -> None:
    voxels = layered_volume(4, 8, 8)
    assert companions("a/x.mhd", as_mha(voxels, ElementDataFile="x.raw")) == ("x.raw",)
    assert companions("a/x.nhdr", as_nrrd(voxels, **{"data file": "x.raw"})) == ("x.raw",)
    assert companions("x.xml", make_heyex_xml(["1.tif", "2.tif"])) == ("1.tif", "2.tif")
    assert companions("x.npy", as_npy(voxels)) == ()


def test_real_stacks_are_equal_in_every_kind(real_oct: Path) -> None:
    """Bit for bit, whatever the file: DICOM, PNG folder, TIFF, npy, npz, NIfTI, MetaImage, NRRD, MATLAB."""
    for folder in sorted(path for path in real_oct.iterdir() if path.is_dir())[:2]:
        paths = sorted(folder.glob("*.png"))
        voxels = np.stack([np.asarray(Image.open(path)) for path in paths])
        kinds = {
            "folder": [ScanFile(f"a/{path.name}", path.read_bytes()) for path in reversed(paths)],
            "dicom": [ScanFile("x.dcm", make_file(voxels))],
            "tiff": [ScanFile("x.tif", as_tiff(voxels, compression="lzw"))],
            "npy": [ScanFile("x.npy", as_npy(voxels))],
            "npz": [ScanFile("x.npz", as_npz(scan=voxels, packed=False))],
            "nifti": [ScanFile("x.nii", as_nifti(voxels))],
            "mha": [ScanFile("x.mha", as_mha(voxels))],
            "nrrd": [ScanFile("x.nrrd", as_nrrd(voxels))],
        }
        for kind, files in kinds.items():
            assert np.array_equal(read_scan(files).voxels, voxels), kind


DATASETS = (
    "a2a",
    "cirrus_onh",
    "fairvision",
    "gamma",
    "neh_ut",
    "noor_rasti",
    "octdl",
    "olives",
    "retouch",
    "srinivasan",
)


@pytest.mark.parametrize("name", (*DATASETS, "kermany_oct2017"))
def test_public_datasets_in_miniature(name: str, reference: Path) -> None:
    root = reference / "datasets" / name
    expected = json.loads((root / "expected.json").read_text())
    options = {
        "a2a": ReadOptions(array="images", axes=("rows", "columns", "frames")),
        "fairvision": ReadOptions(array="oct_bscans"),
        "neh_ut": ReadOptions(colours="luma"),
    }.get(name, ReadOptions())
    for one in expected["volumes"]:
        files = [ScanFile(file, (root / "data" / file).read_bytes()) for file in reversed(one["files"])]
        voxels = read_scan(files, options=options).voxels
        grey = np.round(voxels / 257).astype(np.uint8) if voxels.dtype == np.uint16 else voxels
        assert hashlib.sha256(np.ascontiguousarray(grey)).hexdigest() == one["sha256"], one["key"]
    for one in expected["unreadable_files"]:
        with pytest.raises(ScanError):
            read_scan([ScanFile(one["file"], (root / "data" / one["file"]).read_bytes())], options=options)
