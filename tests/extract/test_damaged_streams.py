"""No damaged code stream becomes a frame in silence, of any compressed syntax; and sound ones are exact."""

import numpy as np
import pytest
from damaged_streams import KINDS, cuts, flips, form_of, frame_of, zeroed
from odd_files import DELIMITER, item, with_items
from pydicom.uid import UID

from extract.dicom.frame_decoder import FrameError, decode_frame
from extract.dicom.reader import read_dicom
from extract.errors import UndecodablePixels

COUNT = 25
MOST_FLIPS = {
    "JPEG": 14,
    "JPEG extended": 13,
    "JPEG lossless": 23,
    "JPEG lossless SV1": 16,
    "JPEG-LS": 4,
    "JPEG-LS near-lossless": 0,
    "JPEG 2000 lossless": 22,
    "JPEG 2000": 22,
    "HTJ2K lossless": 22,
    "HTJ2K lossless RPCL": 17,
    "HTJ2K": 18,
    "RLE": 23,
}
"""Of COUNT, what comes out as another valid stream: another symbol of the same length, or other bits of a value."""


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

    def test_fragments_lost_doubled_or_exchanged_are_no_frames(self, name: str) -> None:
        """Frames of three fragments, named by an offset table; the middle frame's are damaged."""
        syntax, bits, encode = KINDS[name]
        frame = frame_of(bits)
        stream = encode(frame)
        third = len(stream) // 6 * 2
        sound = [stream[:third], stream[third : 2 * third], stream[2 * third :]]
        a, b, c = sound
        like = np.stack([frame] * 3)
        truth = read_dicom(in_fragments([sound] * 3, like, syntax)).voxels
        np.testing.assert_array_equal(truth[1], decode_frame(stream, form_of(KINDS[name], frame)))
        for broken in (
            [a, c],
            [a, b],
            [b, c],
            [a, b, b, c],
            [a, a, b, c],
            [a, b, c, c],
            [b, a, c],
            [a, c, b],
            [a, b, c[::-1]],
        ):
            with pytest.raises(UndecodablePixels, match="frame 1 "):
                read_dicom(in_fragments([sound, broken, sound], like, syntax))


def in_fragments(frames: list[list[bytes]], like: np.ndarray, syntax: UID) -> bytes:
    """A file whose frames are these fragments, with an offset table."""
    values = [[part + bytes(len(part) % 2) for part in parts] for parts in frames]
    sizes = [sum(8 + len(part) for part in parts) for parts in values]
    table = np.cumsum([0, *sizes[:-1]]).astype("<u4").tobytes()
    items = b"".join(item(part) for parts in values for part in parts)
    return with_items([b"12"] * len(frames), like, syntax, item(table) + items + DELIMITER)
