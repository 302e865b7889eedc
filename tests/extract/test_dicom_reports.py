"""Files as the world writes them: header faults, kinds of objects, and what a refusal says; whole and in parts."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicom_files import layered_volume, make_dataset, to_bytes
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless
from reported_files import NOTED
from small_bucket import LAYOUT, options

from embeddings_store.schema import Note
from embeddings_store.snapshot import read_features_source
from extract.dicom.frame_ranges import FrameRanges, find_ranges
from extract.dicom.reader import read_dicom
from extract.errors import (
    IncompleteConcatenation,
    NoPixelData,
    NotAVolume,
    NotDicom,
    NotStructuralOct,
    UnsupportedColour,
)
from extract.pipeline import extract

OPHTHALMIC_PHOTO = UID("1.2.840.10008.5.1.4.1.1.77.1.5.1")

READ = (
    "c17_highbit15",
    "c18_no_meta_group_length",
    "c19d_meta_length_zero",
    "c22a_says_implicit_is_explicit",
    "c22c_says_implicit_is_explicit_OW",
    "c22d_small",
    "c26a_no_number_of_frames",
    "c27b_excess_padding_frame",
    "c27c_excess_padding_half",
    "c28_odd_frame_padding",
    "c28b_odd_ok",
    "c29b_rescale_shared_negative",
    "c29c_rescale_top_negative",
    "c30_slope_zero",
    "c43b_photometric",
)
RESCALE = {
    "c29b_rescale_shared_negative": (-1.0, 255.0),
    "c29c_rescale_top_negative": (-1.0, 255.0),
    "c30_slope_zero": (0.0, 0.0),
}


@pytest.fixture
def reports(reference: Path) -> Path:
    return reference / "dicom_reports"


@pytest.mark.parametrize("name", READ)
def test_what_others_forgive_is_read_and_noted(name: str, reports: Path) -> None:
    volume = read_dicom((reports / f"{name}.dcm").read_bytes())

    np.testing.assert_array_equal(volume.voxels, np.load(reports / f"{name}.npy"))
    assert volume.notes & ~(Note.SYNTHETIC | Note.NO_SPACING) == NOTED.get(name, Note.NONE)
    assert volume.rescale == RESCALE.get(name, (1.0, 0.0))


def test_frames_with_slopes_of_their_own_are_rescaled(reports: Path) -> None:
    volume = read_dicom((reports / "c29a_rescale_per_frame.dcm").read_bytes())

    stored, frame = np.load(reports / "c29a_rescale_per_frame.npy"), np.arange(12)[:, None, None]
    np.testing.assert_allclose(volume.voxels, stored * (1 + 0.3 * frame) - frame, rtol=1e-5, atol=1e-3)
    assert (volume.rescale, volume.notes & Note.RESCALED_BY_FRAME) == ((1.0, 0.0), Note.RESCALED_BY_FRAME)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "c34_fa_movie",
            "Ophthalmic Photography 8 Bit Image Storage (1.2.840.10008.5.1.4.1.1.77.1.5.1) of modality OP",
        ),
        ("c34_octa_flow", "OPTBSV"),
        ("c34_seg", "Segmentation Storage"),
        ("c34_us", "US"),
    ],
)
def test_other_objects_are_refused_unless_they_are_meant(name: str, words: str, reports: Path) -> None:
    data = (reports / f"{name}.dcm").read_bytes()

    with pytest.raises(NotStructuralOct, match=re.escape(words)):
        read_dicom(data)
    sop_class = str(dcmread(reports / f"{name}.dcm").SOPClassUID)
    assert read_dicom(data, allowed={sop_class}).notes & Note.KIND_ALLOWED


@pytest.mark.parametrize("name", ["c35_concatenation_1of2", "c35b_concatenation_2of2"])
def test_a_part_of_a_concatenation_is_no_volume(name: str, reports: Path) -> None:
    with pytest.raises(IncompleteConcatenation, match=f"part {1 if '1of2' in name else 2} of 2"):
        read_dicom((reports / f"{name}.dcm").read_bytes())


@pytest.mark.parametrize("name", [*READ, "c29a_rescale_per_frame"])
def test_ranges_lead_to_the_same_frames_and_notes(name: str, reports: Path) -> None:
    data = (reports / f"{name}.dcm").read_bytes()
    whole = read_dicom(data, frames=lambda count: np.array([1, count - 1]))

    found = find_ranges(data[:2000], len(data), lambda count: np.array([1, count - 1]))

    if not isinstance(found, FrameRanges):
        assert found is None, "read whole"
        return
    holes = bytearray(len(data))
    for start, stop in ((0, 2000), *found.spans):
        holes[start:stop] = data[start:stop]
    parts = read_dicom(bytes(holes), frames=lambda _: found.frames)
    np.testing.assert_array_equal(parts.voxels, whole.voxels)
    assert (parts.notes, parts.rescale) == (whole.notes, whole.rescale)


RECOGNISED = {
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x1f\x8b\x08": "a gzip file: unpack it",
    bytes(257) + b"ustar": "a tar archive: unpack it",
    b"%PDF-1.4": "a PDF report.* export",
    b"\xff\xd8\xff\xe0": "a JPEG picture.* export",
    b"\x89PNG\r\n": "a PNG picture.* export",
    b"II*\x00": "a TIFF picture: export",
    b"MM\x00+": "a TIFF picture.* export",
    bytes(344) + b"n+1\x00": "a NIfTI file: export",
    b"\x1c\x02\x00\x00n+2\x00\r\n": "a NIfTI file: export",
    b"HSF-OCT-103": "a Heidelberg HEYEX .vol file: export",
    b"CMDb": "a Heidelberg HEYEX .e2e file: export",
    bytes(4) + b"FOCT": "a Topcon .fda file: export",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file: export",
    b"MATLAB 5.0 MAT-file": "a MATLAB .mat file: export",
    b"ObjectType = Image\nNDims = 3\n": r"a MetaImage header \(.mhd\): export",
    b"\n<!DOCTYPE html>": "a web page, perhaps a server's error page: download",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>": "a server's error answer .*download",
    b"<?xml version='1.0'?><root/>": "an XML file: export",
    b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100": "DICOM elements without the preamble of a DICOM file",
    b"anything": "other bytes",
}


@pytest.mark.parametrize("data", RECOGNISED)
def test_a_refusal_says_what_the_file_is_and_what_to_do(data: bytes) -> None:
    with pytest.raises(NotDicom, match=f"got {RECOGNISED[data]}"):
        read_dicom(data + bytes(600))


def test_an_empty_file_is_named() -> None:
    with pytest.raises(NotDicom, match="an empty file"):
        read_dicom(b"")


def saved(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_what_has_no_pixels_is_named(reports: Path) -> None:
    dataset = dcmread(reports / "c28b_odd_ok.dcm")
    del dataset.PixelData
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    with pytest.raises(NoPixelData, match="it is of Encapsulated PDF Storage"):
        read_dicom(saved(dataset))
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    with pytest.raises(NoPixelData, match="a DICOMDIR"):
        read_dicom(saved(dataset))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_one_frame_of_a_series_says_so(syntax: UID) -> None:
    def single(**told: str) -> bytes:
        dataset = make_dataset(layered_volume(1), **told)
        if syntax == RLELossless:
            dataset.compress(syntax)
        return to_bytes(dataset)

    with pytest.raises(NotAVolume, match=r"one frame of a series.* export the scan as one multi-frame") as refusal:
        read_dicom(single(Modality="OPT", SeriesInstanceUID="1.2.3.4"))
    assert "1.2.3.4" not in str(refusal.value)
    for told in ({"Modality": "OPT"}, {"Modality": "OP", "SeriesInstanceUID": "1.2", "SOPClassUID": OPHTHALMIC_PHOTO}):
        with pytest.raises(NotAVolume, match="leave single images out"):
            read_dicom(single(**told))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("grey", [True, False])
def test_grey_stored_in_three_samples(grey: bool, photometric: str, planar: int, reports: Path) -> None:
    dataset = dcmread(reports / "c28b_odd_ok.dcm")
    stored = np.load(reports / "c28b_odd_ok.npy")
    colour = np.repeat(stored[..., None], 3, axis=3)
    if photometric == "YBR_FULL":
        colour[..., 1:] = 128
    colour[3, 2, 1, 2] ^= 0 if grey else 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, photometric, planar
    dataset.PixelData = (np.moveaxis(colour, -1, 1) if planar else colour).tobytes()

    if not grey:
        with pytest.raises(UnsupportedColour, match="channels differ" if photometric == "RGB" else "with colour"):
            read_dicom(saved(dataset))
        return
    volume = read_dicom(saved(dataset))
    np.testing.assert_array_equal(volume.voxels, stored)
    assert volume.notes & Note.GREY_AS_RGB


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_stored_as_a_palette(bits: int, syntax: UID) -> None:
    voxels = layered_volume(6)
    greys = (np.arange(250) * (1 if bits == 8 else 257))[::-1].astype(f"<u{bits // 8}")  # indices from 3 on

    def with_palette(blue: np.ndarray) -> bytes:
        dataset = make_dataset(voxels, PhotometricInterpretation="PALETTE COLOR", Modality="OPT")
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [250, 3, bits])
            table = blue if colour == "Blue" else greys
            setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
        if syntax == RLELossless:
            dataset.compress(syntax)
        return to_bytes(dataset)

    volume = read_dicom(with_palette(greys))
    np.testing.assert_array_equal(volume.voxels, greys[np.clip(voxels.astype(int) - 3, 0, 249)])
    assert (volume.voxels.dtype, volume.notes & Note.GREY_AS_RGB) == (greys.dtype, Note.GREY_AS_RGB)
    for blue in (greys ^ 1, greys[:100]):
        with pytest.raises(UnsupportedColour, match="palette"):
            read_dicom(with_palette(blue))


def test_a_row_keeps_what_the_object_says_it_is(reports: Path, tmp_path: Path) -> None:
    key = f"{LAYOUT}/1001/1001_cirrus_mac_oct_l_1.2.1.dcm"
    path = tmp_path / "eye" / key
    path.parent.mkdir(parents=True)
    path.write_bytes((reports / "c18_no_meta_group_length.dcm").read_bytes())
    extract(options(tmp_path / "eye", tmp_path / "store"))
    found = read_features_source(str(tmp_path / "store")).index.iloc[0]
    told = (found["sop_class"], found["modality"], found["image_type"])
    assert told == ("1.2.840.10008.5.1.4.1.1.77.1.5.4", "OPT", "ORIGINAL\\PRIMARY")
