"""Which reader a file needs, by its first bytes and then by its name; and a scan read through it."""

from collections.abc import Collection, Sequence
from typing import Final

from embeddings_store.schema import VolumeRef
from extract.dicom.frame_decoder import FrameDecoder, decode_here
from extract.dicom.header import FileBytes
from extract.dicom.reader import FrameChooser
from extract.dicom.recognise import recognise
from extract.errors import RefusedScan, ScanError, UnknownScan
from extract.readers.bioptigen import Bioptigen
from extract.readers.cirrus_img import CirrusImg
from extract.readers.contract import HEAD_BYTES, Inside, Reader, Request, ScanFile
from extract.readers.dicom import Dicom
from extract.readers.heyex_e2e import HeyexE2e
from extract.readers.heyex_vol import HeyexVol
from extract.readers.heyex_xml import HeyexXml
from extract.readers.matlab import Matlab
from extract.readers.matlab_hdf5 import MatlabHdf5
from extract.readers.metaimage import MetaImage
from extract.readers.nifti import Nifti
from extract.readers.npy import Npy
from extract.readers.npz import Npz
from extract.readers.nrrd import Nrrd
from extract.readers.pictures import Pictures
from extract.readers.read_options import ReadOptions
from extract.readers.topcon import Topcon
from extract.volume import Volume

READERS: Final[tuple[Reader, ...]] = (
    Dicom(),
    Nifti(),
    Npy(),
    Npz(),
    Matlab(),
    MatlabHdf5(),
    Nrrd(),
    MetaImage(),
    HeyexVol(),
    HeyexE2e(),
    HeyexXml(),
    Topcon(),
    Bioptigen(),
    Pictures(),
    CirrusImg(),
)
"""In the order in which they are asked."""


def reader_for(name: str, head: bytes, source: str = "file") -> Reader:
    """Find the reader of a file. head: its first 4096 bytes, or all. Raises: UnknownScan, which says what it is."""
    for reader in READERS:
        if reader.recognises(name, head):
            return reader
    kinds = ", ".join(reader.name for reader in READERS)
    raise UnknownScan(f"{source}: expected a scan, got {recognise(head)}; readers: {kinds}")


def companions(name: str, head: FileBytes) -> tuple[str, ...]:
    """Name the further files, in the folder of this one, that a scan needs; of pictures and DICOM files, none."""
    return reader_for(name, bytes(head[:HEAD_BYTES])).companions(name, head)


def volumes_in(
    files: Sequence[ScanFile], *, ref: VolumeRef | None = None, options: ReadOptions | None = None
) -> list[Inside]:
    """Name the volumes inside the files of one scan. Raises: ScanError."""
    request = _request(ref, options)
    return _reader(files, request).volumes(files, request)


def read_scan(
    files: Sequence[ScanFile],
    *,
    ref: VolumeRef | None = None,
    frames: FrameChooser | None = None,
    options: ReadOptions | None = None,
    decode: FrameDecoder = decode_here,
    allowed: Collection[str] = (),
    number: int | None = None,
) -> Volume:
    """Read one volume from its files, given in any order; only the frames that are chosen are decoded.

    number: from 0, of the volumes in a file that holds several; None: the only one.
    The other arguments are those of read_dicom.
    Raises: a ScanError, whose class and words say why the files cannot be used.
    """
    request = _request(ref, options, frames, decode, allowed)
    return _reader(files, request).read(files, number, request)


def _request(
    ref: VolumeRef | None,
    options: ReadOptions | None,
    frames: FrameChooser | None = None,
    decode: FrameDecoder = decode_here,
    allowed: Collection[str] = (),
) -> Request:
    return Request(ref.volume if ref else "file", ref, frames, options or ReadOptions(), decode, allowed)


def _reader(files: Sequence[ScanFile], request: Request) -> Reader:
    """Find the one reader of all files; a file that no reader knows may be the pixels of another's header."""
    if not files:
        raise RefusedScan(f"{request.source}: expected the files of a scan, got none")
    pixels = {name for file in files for name in _companions(file)}
    found = list[Reader]()
    for file in files:
        if file.base in pixels:
            continue
        reader = reader_for(file.name, file.head, request.source)
        if reader not in found:
            found.append(reader)
    if len(found) != 1:
        kinds = " and ".join(reader.name for reader in found) or "pixels without a header"
        raise RefusedScan(f"{request.source}: expected files of one kind, got {kinds}")
    return found[0]


def _companions(file: ScanFile) -> tuple[str, ...]:
    """Name the files that a file refers to; one that no reader knows may be one of them."""
    try:
        return reader_for(file.name, file.head).companions(file.name, file.data)
    except ScanError:  # said again by the reader itself
        return ()
