"""Sound code streams of every compressed syntax, and the damage that is done to them by the hundred."""

from collections.abc import Callable, Iterator
from io import BytesIO

import imagecodecs
import numpy as np
from dicom_files import compress, layered_volume
from openjpeg.utils import encode_array
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID, RLELossless

from extract.dicom.frame_decoder import COMPRESSED, FrameFormat

ROWS, COLUMNS = 40, 48
END = b"\xff\xd9"
Encode = Callable[[np.ndarray], bytes]
Kind = tuple[UID, int, Encode]


def frame_of(bits: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """One frame of so many bits."""
    wide = layered_volume(1, rows, columns, "uint16")[0]
    return (wide >> 16 - bits).astype("u1" if bits == 8 else "u2")


def encode_rle(frame: np.ndarray) -> bytes:
    data = compress(np.stack([frame, frame]), RLELossless)
    return bytes(next(iter(generate_frames(dcmread(BytesIO(data)).PixelData, number_of_frames=2))))


def jpeg(**options: object) -> Callable[[np.ndarray], bytes]:
    return lambda frame: bytes(imagecodecs.jpeg8_encode(frame, 90, **options))


def jpeg_2000(**options: object) -> Callable[[np.ndarray], bytes]:
    return lambda frame: bytes(encode_array(frame, photometric_interpretation=2, **options))


def jpeg_ls(level: int) -> Callable[[np.ndarray], bytes]:
    return lambda frame: bytes(imagecodecs.jpegls_encode(frame, level))


def high_throughput(reversible: bool) -> Callable[[np.ndarray], bytes]:
    return lambda frame: bytes(imagecodecs.htj2k_encode(frame, reversible=reversible))


ENCODERS: dict[str, tuple[int, Encode]] = {
    "JPEG": (8, jpeg()),
    "JPEG extended": (12, jpeg(bitspersample=12)),
    "JPEG lossless": (12, jpeg(lossless=True, predictor=6, bitspersample=12)),
    "JPEG lossless SV1": (8, jpeg(lossless=True, predictor=1)),
    "JPEG-LS": (12, jpeg_ls(0)),
    "JPEG-LS near-lossless": (8, jpeg_ls(2)),
    "JPEG 2000 lossless": (16, jpeg_2000()),
    "JPEG 2000": (8, jpeg_2000(compression_ratios=[5, 2])),
    "HTJ2K lossless": (16, high_throughput(True)),
    "HTJ2K lossless RPCL": (8, high_throughput(True)),
    "HTJ2K": (8, high_throughput(False)),
    "RLE": (16, encode_rle),
}
KINDS: dict[str, Kind] = {name: (syntax, *ENCODERS[name]) for name, syntax in COMPRESSED.items()}
"""By name: transfer syntax, bits of a sample, encoder."""


def form_of(kind: Kind, frame: np.ndarray) -> FrameFormat:
    return FrameFormat(str(kind[0]), *frame.shape, 8 * frame.itemsize, signed=False)


def cuts(stream: bytes, count: int) -> Iterator[bytes]:
    """Cut a stream short; then with an end of image behind the cut."""
    for place in places(stream, count):
        yield stream[:place]
        if stream.endswith(END):
            yield stream[:place].removesuffix(b"\xff") + END


def zeroed(stream: bytes, count: int) -> Iterator[bytes]:
    """Make a tail zeros, as a transfer that stopped does; then with the end of image kept."""
    for place in places(stream, count):
        yield stream[:place] + bytes(len(stream) - place)
        if stream.endswith(END):
            yield stream[:place] + bytes(len(stream) - place - 2) + END


def flips(stream: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Turn over one bit."""
    for place in np.random.default_rng(seed).integers(8 * len(stream), size=count):
        damaged = bytearray(stream)
        damaged[place // 8] ^= 1 << place % 8
        yield bytes(damaged)


def places(stream: bytes, count: int) -> list[int]:
    """Spread over the stream; the last one leaves more than a sixteenth of a kilobyte behind it."""
    return [int(place) for place in np.linspace(1, len(stream) - 64, count)]


DAMAGES = {"cut": cuts, "zeroed": zeroed, "flip": flips}
