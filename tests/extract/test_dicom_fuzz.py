"""Damaged DICOM files end as a Volume or in a named refusal; the long run is tests/benchmarks/fuzz_dicom.py."""

import struct
from collections import Counter
from io import BytesIO

import numpy as np
import pytest
from dicom_files import compress, layered_volume, make_encapsulated, make_file
from dicom_fuzz import make_case, read_case
from dicom_seeds import all_seeds
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from extract.dicom.codestream import read_head
from extract.dicom.reader import read_dicom
from extract.errors import UndecodablePixels, UnsupportedColour

CUTS = range(0, 3_000, 15)
DAMAGES = range(100_000, 100_400)  # far behind the last cut: damaged at random


def code_streams(rows: int, columns: int, syntax: UID) -> list[bytes]:
    data = compress(layered_volume(4, rows, columns), syntax)
    return list(generate_frames(dcmread(BytesIO(data)).PixelData, number_of_frames=4))


def rle_frame(high: bytes, low: bytes) -> bytes:
    """One RLE frame of 16-bit samples: a segment of their high bytes, and one of the low (DICOM PS3.5, annex G)."""
    return struct.pack("<16L", 2, 64, 64 + len(high), *[0] * 13) + high + low


class TestDamagedFiles:
    def test_every_outcome_has_a_name(self) -> None:
        seeds, outcomes = all_seeds(), Counter[str]()
        for number in (*CUTS, *DAMAGES):
            recipe, data = make_case(seeds, 0, number)
            try:
                outcomes[read_case(data, number)] += 1
            except Exception as error:
                error.add_note(f"number {number}: {recipe}")
                raise
        assert outcomes.total() == 600
        assert set(outcomes) >= {"Volume", "NotDicom", "NoPixelData", "ShortPixelData", "UndecodablePixels"}

    def test_a_number_always_gives_the_same_file(self) -> None:
        seeds = all_seeds()
        for number in (*CUTS[::40], *DAMAGES[::40]):
            assert make_case(seeds, 3, number) == make_case(seeds, 3, number)
        assert make_case(seeds, 3, DAMAGES[0]) != make_case(seeds, 4, DAMAGES[0])


class TestFinds:
    """What the long run found, each built again from its recipe."""

    @pytest.mark.parametrize("long", [b"\xef\x00", b"\x11" + bytes(18)], ids=["replicate", "literal"])
    def test_an_rle_segment_longer_than_the_frame(self, long: bytes) -> None:
        """Found: a panic of the decoder, which no `except Exception` catches, ended the process."""
        sound, broken = (rle_frame(b"\xf1\x00", low) for low in (b"\xf1\x00", long))
        with pytest.raises(UndecodablePixels, match="frame 1 cannot be decoded"):
            read_dicom(make_encapsulated([sound, broken], layered_volume(2, 4, 4, "uint16"), RLELossless))

    def test_an_interruption_while_decoding_is_no_damage(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("extract.dicom.frame_decoder.decode_rle", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read_dicom(compress(layered_volume(), RLELossless))

    @pytest.mark.parametrize("vr", [b"CR", b"C\x13"])
    def test_a_colour_space_of_an_unknown_representation(self, vr: bytes) -> None:
        """Found: NotImplementedError, as pydicom converts an element only when it is asked for."""
        data = make_file(layered_volume()).replace(b"\x28\x00\x04\x00CS", b"\x28\x00\x04\x00" + vr)
        with pytest.raises(UnsupportedColour, match="malformed"):
            read_dicom(data)

    def test_a_jpeg_ls_stream_without_rows(self) -> None:
        """Found: a decoder that never ended."""
        streams = code_streams(32, 32, JPEGLSLossless)
        hanging = bytearray(streams[3])
        assert hanging[7:9] == b"\x00\x20"
        hanging[8], hanging[25] = 0, 2
        with pytest.raises(UndecodablePixels, match=r"frame 3 is a code stream of \(0, 32\)"):
            read_dicom(make_encapsulated([*streams[:3], bytes(hanging)], layered_volume(4, 32, 32), JPEGLSLossless))

    def test_a_jpeg_2000_stream_that_claims_another_width(self) -> None:
        """Found: half a gigabyte for a frame of a kilobyte."""
        streams = code_streams(32, 32, JPEG2000Lossless)
        wide = bytearray(streams[0])
        wide[9] ^= 0x10
        with pytest.raises(UndecodablePixels, match=r"frame 0 is a code stream of \(32, 1048608\)"):
            read_dicom(make_encapsulated([bytes(wide), *streams[1:]], layered_volume(4, 32, 32), JPEG2000Lossless))


def size_of(stream: bytes) -> tuple[int, int]:
    head = read_head(stream)
    assert head is not None
    return head.rows, head.columns


class TestStreamSize:
    @pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
    def test_is_what_was_encoded(self, syntax: UID) -> None:
        assert {size_of(stream) for stream in code_streams(40, 36, syntax)} == {(40, 36)}

    @pytest.mark.parametrize("progressive", [False, True])
    def test_of_jpeg_is_found_behind_other_segments_and_fill_bytes(self, progressive: bool) -> None:
        Image.fromarray(np.zeros((24, 17), np.uint8)).save(out := BytesIO(), format="JPEG", progressive=progressive)
        stream = out.getvalue()
        assert size_of(stream) == (24, 17)
        assert size_of(stream[:2] + b"\xff" + stream[2:]) == (24, 17)

    def test_an_offset_image_area(self) -> None:
        stream = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + struct.pack(">4L", 110, 220, 10, 20) + bytes(20)
        assert size_of(stream) == (200, 100)

    @pytest.mark.parametrize(
        "stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda" + bytes(20), rle_frame(bytes(8), bytes(8))]
    )
    def test_no_header_no_size(self, stream: bytes) -> None:
        assert read_head(stream) is None
