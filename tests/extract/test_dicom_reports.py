"""Files as the world writes them: header faults, kinds of objects, and what a refusal says; whole and in parts."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from small_bucket import LAYOUT, options

from embeddings_store.schema import Note
from embeddings_store.snapshot import read_features_source
from extract.dicom.frame_ranges import FrameRanges, find_ranges
from extract.dicom.reader import read_dicom
from extract.errors import IncompleteConcatenation, NotDicom, NotStructuralOct, UnsupportedColour
from extract.pipeline import extract

READ = {
    "c17_highbit15": Note.HIGH_BIT,
    "c18_no_meta_group_length": Note.META_LENGTH_WRONG,
    "c19d_meta_length_zero": Note.META_LENGTH_WRONG,
    "c22a_says_implicit_is_explicit": Note.SYNTAX_DISAGREES,
    "c22c_says_implicit_is_explicit_OW": Note.SYNTAX_DISAGREES,
    "c22d_small": Note.SYNTAX_DISAGREES,
    "c26a_no_number_of_frames": Note.FRAMES_COUNTED,
    "c27b_excess_padding_frame": Note.PADDED,
    "c27c_excess_padding_half": Note.PADDED,
    "c28_odd_frame_padding": Note.FRAMES_PADDED,
    "c28b_odd_ok": Note.NONE,
    "c29b_rescale_shared_negative": Note.NONE,
    "c29c_rescale_top_negative": Note.NONE,
    "c30_slope_zero": Note.CONSTANT,
    "c43b_photometric": Note.NONE,
}
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
    assert volume.notes & ~(Note.SYNTHETIC | Note.NO_SPACING) == READ[name]
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


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04", "a zip archive"),
        (b"%PDF-1.4", "a PDF"),
        (b"HSF-OCT-103", "HEYEX"),
        (bytes(4) + b"FOCT", "Topcon"),
        (b"\n<!DOCTYPE html>", "a web page"),
        (b"", "an empty file"),
    ],
)
def test_a_refusal_says_what_the_file_is(data: bytes, words: str) -> None:
    with pytest.raises(NotDicom, match=words):
        read_dicom(data)


@pytest.mark.parametrize("equal", [True, False])
def test_grey_stored_as_rgb_is_read_when_the_channels_are_equal(equal: bool, reports: Path) -> None:
    dataset = dcmread(reports / "c28b_odd_ok.dcm")
    stored = np.load(reports / "c28b_odd_ok.npy")
    colour = np.repeat(stored[..., None], 3, axis=3)
    colour[3, 2, 1, 0] ^= 0 if equal else 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = colour.tobytes()
    buffer = BytesIO()
    dataset.save_as(buffer)

    if not equal:
        with pytest.raises(UnsupportedColour, match="channels differ"):
            read_dicom(buffer.getvalue())
        return
    volume = read_dicom(buffer.getvalue())
    np.testing.assert_array_equal(volume.voxels, stored)
    assert volume.notes & Note.GREY_AS_RGB


def test_a_row_keeps_what_the_object_says_it_is(reports: Path, tmp_path: Path) -> None:
    key = f"{LAYOUT}/1001/1001_cirrus_mac_oct_l_1.2.1.dcm"
    path = tmp_path / "eye" / key
    path.parent.mkdir(parents=True)
    path.write_bytes((reports / "c18_no_meta_group_length.dcm").read_bytes())
    extract(options(tmp_path / "eye", tmp_path / "store"))
    found = read_features_source(str(tmp_path / "store")).index.iloc[0]
    told = (found["sop_class"], found["modality"], found["image_type"])
    assert told == ("1.2.840.10008.5.1.4.1.1.77.1.5.4", "OPT", "ORIGINAL\\PRIMARY")
