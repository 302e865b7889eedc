"""No damaged code stream becomes a frame in silence, of any compressed syntax; and sound ones are exact."""

import imagecodecs
import numpy as np
import pytest
from damaged_streams import KINDS, cuts, flips, form_of, frame_of, zeroed

from extract.dicom.codestream import DamagedStreamError
from extract.dicom.frame_decoder import FrameError, check_stream, decode_frame
from extract.dicom.jpeg_scan import check_jpeg

COUNT = 25


def wrong_in_silence(name: str, damaged: list[bytes]) -> int:
    kind = KINDS[name]
    frame = frame_of(kind[1])
    form = form_of(kind, frame)
    truth, wrong = decode_frame(kind[2](frame), form), 0
    for stream in damaged:
        try:
            wrong += int((decode_frame(stream, form) != truth).any())
        except FrameError as error:
            assert str(error).startswith("cannot be decoded (")
    return wrong


@pytest.mark.parametrize("name", KINDS)
class TestEverySyntax:
    def test_a_sound_frame_is_read(self, name: str) -> None:
        kind = KINDS[name]
        frame = frame_of(kind[1])
        found = decode_frame(kind[2](frame), form_of(kind, frame))
        lossy = name in {"JPEG", "JPEG extended", "JPEG-LS near-lossless", "JPEG 2000", "HTJ2K"}
        assert np.abs(found.astype(int) - frame).max() <= (0.05 * 2 ** kind[1] if lossy else 0)

    def test_a_cut_stream_is_refused(self, name: str) -> None:
        kind = KINDS[name]
        assert wrong_in_silence(name, list(cuts(kind[2](frame_of(kind[1])), COUNT))) == 0

    def test_a_stream_whose_tail_is_zeros_is_refused(self, name: str) -> None:
        kind = KINDS[name]
        assert wrong_in_silence(name, list(zeroed(kind[2](frame_of(kind[1])), COUNT))) == 0


    def test_a_bit_turned_over_is_refused_or_another_valid_stream(self, name: str) -> None:
        """A code that is another valid one cannot be known; what is refused more rarely than here has become lax."""
        kind = KINDS[name]
        assert wrong_in_silence(name, list(flips(kind[2](frame_of(kind[1])), COUNT))) <= MOST_FLIPS[name]
