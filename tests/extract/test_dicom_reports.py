"""Files as the world writes them: header faults, kinds of objects, and what a refusal says; whole and in parts."""

from pathlib import Path

import numpy as np
import pytest

from embeddings_store.schema import Note
from extract.dicom.frame_ranges import FrameRanges, find_ranges
from extract.dicom.reader import read_dicom
from extract.errors import IncompleteConcatenation, NotStructuralOct

READ = {
    "c17_highbit15": Note.HIGH_BIT,
    "c18_no_meta_group_length": Note.META_LENGTH_WRONG,
    "c19d_meta_length_zero": Note.META_LENGTH_WRONG,
    "c22a_says_implicit_is_explicit": Note.SYNTAX_DISAGREES,
    "c22c_says_implicit_is_explicit_OW": Note.SYNTAX_DISAGREES,
    "c22d_small": Note.SYNTAX_DISAGREES,
    "c26a_no_number_of_frames": Note.FRAMES_COUNTED,
    "c27b_excess_padding_frame": Note.PADDED | Note.FRAME_COUNT_DISAGREES * 0,
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
