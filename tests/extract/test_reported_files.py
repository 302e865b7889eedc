"""Files as other readers' bug reports describe them: compressed frames, and how items hold them."""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from damaged_streams import KINDS, frame_of
from dicom_files import compress, layered_volume, make_encapsulated
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from embeddings_store.schema import Note
from extract.dicom.reader import read_dicom
from extract.errors import ShortPixelData, UndecodablePixels

EXACT = ("c01", "c03", "c08", "c14", "c15", "c16", "c55", "d03", "d04", "d09", "d11")
CUT = ("c75", "c77")
DELIMITER = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
FRAMES = 6


def item(value: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(value)) + value


def streams_of(voxels: np.ndarray, syntax: UID) -> list[bytes]:
    data = compress(voxels, syntax)
    return list(generate_frames(dcmread(BytesIO(data)).PixelData, number_of_frames=len(voxels)))


def in_items(
    values: list[bytes], voxels: np.ndarray, syntax: UID, *, table: bytes = b"", end: bytes = DELIMITER
) -> bytes:
    """A file whose items are these, behind this offset table."""
    sound = make_encapsulated([b"12"] * len(voxels), voxels, syntax, offset_table=False)
    return sound[: sound.index(item(b""))] + item(table) + b"".join(map(item, values)) + end


def split(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


@pytest.mark.parametrize("name", EXACT)
def test_a_reported_file_is_its_true_array(reference: Path, name: str) -> None:
    found = sorted((reference / "dicom_reports").glob(f"{name}*.dcm"))
    assert found
    for path in found:
        volume = read_dicom(path.read_bytes())
        np.testing.assert_array_equal(volume.voxels, np.load(path.with_suffix(".npy")), err_msg=path.name)
        assert bool(volume.notes & Note.NOT_CLOSED) is (name == "c01"), path.name


@pytest.mark.parametrize("name", CUT)
def test_a_frame_cut_in_half_is_named(reference: Path, name: str) -> None:
    (path,) = (reference / "dicom_reports").glob(f"{name}*.dcm")
    with pytest.raises(UndecodablePixels, match=r"frame 5 cannot be decoded \(it does not end with an end of image"):
        read_dicom(path.read_bytes())


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda uid: uid.name)
class TestItems:
    def test_a_table_that_names_every_fragment(self, syntax: UID) -> None:
        voxels = layered_volume(FRAMES)
        fragments = [part for stream in streams_of(voxels, syntax) for part in split(stream, 200)]
        starts = np.cumsum([0, *(8 + len(part) for part in fragments[:-1])]).astype("<u4").tobytes()
        for table in (starts, b""):
            volume = read_dicom(in_items(fragments, voxels, syntax, table=table))
            np.testing.assert_array_equal(volume.voxels, voxels)
            assert not volume.notes & Note.FRAME_COUNT_DISAGREES

    def test_an_empty_fragment_behind_each(self, syntax: UID) -> None:
        voxels = layered_volume(FRAMES)
        values = [part for stream in streams_of(voxels, syntax) for part in (stream, b"")]
        np.testing.assert_array_equal(read_dicom(in_items(values, voxels, syntax)).voxels, voxels)

    def test_no_delimiter_is_noted_if_every_frame_is_whole(self, syntax: UID) -> None:
        voxels = layered_volume(FRAMES)
        streams = streams_of(voxels, syntax)
        for end in (b"", bytes(8), bytes(3), DELIMITER[:5]):
            volume = read_dicom(in_items(streams, voxels, syntax, end=end))
            np.testing.assert_array_equal(volume.voxels, voxels)
            assert volume.notes & Note.NOT_CLOSED
        assert not read_dicom(in_items(streams, voxels, syntax)).notes & Note.NOT_CLOSED

    def test_no_delimiter_and_a_last_frame_cut_is_refused_though_nobody_asks_for_it(self, syntax: UID) -> None:
        voxels = layered_volume(FRAMES)
        streams = streams_of(voxels, syntax)
        cut = [*streams[:-1], streams[-1][: len(streams[-1]) // 4 * 2]]
        with pytest.raises(ShortPixelData, match="breaks off in frame 5"):
            read_dicom(in_items(cut, voxels, syntax, end=b""), frames=lambda _: np.array([0, 1]))
        with pytest.raises(ShortPixelData, match="6 frames declared, encapsulated items for 5 found"):
            read_dicom(in_items(streams[:-1], voxels, syntax, end=b""))

    def test_a_frame_that_lost_its_beginning_joins_no_other(self, syntax: UID) -> None:
        voxels = layered_volume(FRAMES)
        streams = streams_of(voxels, syntax)
        for place in (1, FRAMES - 1):
            broken = [*streams[:place], bytes(2) + streams[place][2:], *streams[place + 1 :]]
            with pytest.raises((UndecodablePixels, ShortPixelData)):
                read_dicom(in_items(broken, voxels, syntax))
            halves = [part for stream in broken for part in split(stream, len(stream) // 2 + 1)]
            with pytest.raises(ShortPixelData, match="items for 5 found"):
                read_dicom(in_items(halves, voxels, syntax))


@pytest.mark.parametrize("end", [b"", DELIMITER])
def test_items_in_pixel_data_of_defined_length(end: bytes) -> None:
    voxels = layered_volume(FRAMES)
    data = in_items(streams_of(voxels, JPEGLSLossless), voxels, JPEGLSLossless, end=end)
    start = data.index(item(b""))
    length = struct.pack("<L", len(data) - start)
    volume = read_dicom(data[: start - 4] + length + data[start:])
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert not volume.notes & Note.NOT_CLOSED
    with pytest.raises(ShortPixelData, match="breaks off"):
        read_dicom((data[: start - 4] + length + data[start:])[:-60])


@pytest.mark.parametrize("name", ["JPEG extended", "JPEG lossless", "JPEG-LS", "JPEG 2000 lossless", "HTJ2K lossless"])
def test_bits_above_bits_stored_are_no_samples(name: str) -> None:
    """Overlays and markers were kept there once; JPEG's own 12 bits are more than 10 too."""
    syntax, bits, encode = KINDS[name]
    frame = frame_of(bits)
    full = read_dicom(make_encapsulated([encode(frame)] * 2, np.stack([frame, frame]), syntax)).voxels
    low = read_dicom(
        make_encapsulated([encode(frame)] * 2, np.stack([frame, frame]), syntax, BitsStored=10, HighBit=9)
    ).voxels
    np.testing.assert_array_equal(low, full & 0x3FF)
    assert (low != full).any()


def test_bytes_behind_a_frame_are_padding_or_damage() -> None:
    frame = frame_of(8)
    for name in ("JPEG", "JPEG lossless SV1", "JPEG-LS near-lossless", "JPEG 2000", "HTJ2K"):
        syntax, _, encode = KINDS[name]
        stream, like = encode(frame), np.stack([frame, frame])
        for padding in (bytes(32), b"\xff", bytes(1)):
            read_dicom(make_encapsulated([stream + padding, stream], like, syntax))
        with pytest.raises(UndecodablePixels, match="frame 0 cannot be decoded"):
            read_dicom(make_encapsulated([stream + stream, stream], like, syntax))
