"""What one scan is: its size and depth, from the first bytes of its files; with checksums, from all of its voxels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
from jaxtyping import Shaped

from embeddings_store.schema import ObjectInfo
from extract.bucket.members import FetchedMembers, fetch_scan, require_present
from extract.bucket.source import Fetched, Source
from extract.dicom.kind import ANY_CLASS
from extract.errors import DamagedScan, FetchError, ScanError
from extract.layouts.contract import PICTURES, Scan
from extract.layouts.dataset import Dataset
from extract.layouts.dicom_heads import first_bytes, read_tags
from extract.layouts.inside import as_meant, labels_of_mask, numbers_in_file
from extract.layouts.table import IDENTIFIERS
from extract.readers.contract import HEAD_BYTES
from extract.readers.natural import missing_numbers
from extract.readers.open import reader_for
from extract.scan import can_leave_out, read_fetched, without_unreadable
from extract.survey.headers import container_of, header_of

NO_FRAMES = "holds no B-scans"
SUFFIXES = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff"), "BMP": (".bmp",)}


@dataclass(frozen=True)
class Surveyed:
    """A scan with what its files say. frames to bits: 0 unknown. sha256: of the voxels, "" where they were not read.

    files: those that are used. identifiers: elements of a DICOM header that name people. unreadable: the others of its
    files, and why. fault: why the scan as a whole is not. is_passing: it may come another time.
    """

    scan: Scan
    files: tuple[str, ...]
    frames: int = 0
    rows: int = 0
    columns: int = 0
    bits: int = 0
    sha256: str = ""
    container: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    fault: str = ""
    has_mask: bool = False
    identifiers: Mapping[str, str] = field(default_factory=dict)
    is_passing: bool = False

    @property
    def is_mislabelled(self) -> bool:
        """Say whether the content is another kind of picture than the name says."""
        names = SUFFIXES.get(self.container)
        is_picture = self.files[0].lower().endswith(PICTURES) if self.files else False
        return bool(names) and is_picture and not self.files[0].lower().endswith(names or ())


def objects_of(scan: Scan) -> tuple[ObjectInfo, ...]:
    """Give the objects of a scan: its members, or the one under its key."""
    return scan.ref.members or (ObjectInfo(scan.ref.key, scan.ref.size, scan.ref.etag),)


def look_at(
    source: Source, scan: Scan, dataset: Dataset | None, *, checksums: bool, identifiers: bool = False
) -> Surveyed:
    """Look at one scan; what is wrong with it is a fault, no error. Raises: BucketError."""
    objects = objects_of(scan)
    begun = Surveyed(scan, tuple(info.key for info in objects), labels=scan.labels, missing=_gaps(scan, objects))
    try:
        require_present(scan.ref)
        if scan.size is not None and not checksums and not identifiers:
            return _sized(replace(begun, container="DICOM"), scan.size)
        head = first_bytes(source, objects[0])
        begun = replace(begun, container=container_of(head))
        if identifiers:
            begun = replace(begun, identifiers=read_tags(head, tuple(IDENTIFIERS.values())) or {})
        if checksums:
            return _read(source, begun, dataset)
        return _look_at_head(source, begun, head, dataset)
    except (FetchError, ScanError) as error:
        return replace(begun, fault=_plain(error), is_passing=isinstance(error, FetchError))


def _look_at_head(source: Source, begun: Surveyed, head: bytes, dataset: Dataset | None) -> Surveyed:
    objects, reading = objects_of(begun.scan), begun.scan.ref.reading
    if len(objects) == 1:
        reader_for(objects[0].key, head[:HEAD_BYTES], begun.scan.ref.volume)
    shown = objects[0]
    if objects[0].key.lower().endswith(".xml") and len(objects) > 1:  # the pictures that it names are the B-scans
        shown, head = objects[1], first_bytes(source, objects[1])
    found = header_of(source, shown, head, reading)
    sized = _sized(begun, found.size)
    if begun.container == "NumPy archive":
        return replace(sized, labels=_all_labels(begun.scan, sized.labels, found.labels, dataset))
    return sized


def _sized(begun: Surveyed, size: tuple[int, int, int, int]) -> Surveyed:
    """Take the size of the first file; of several pictures, or DICOM files of one frame, each is a frame."""
    frames, rows, columns, bits = size
    of_xml = begun.files[0].lower().endswith(".xml")
    if len(begun.files) > 1 and (of_xml or begun.container == "DICOM" or begun.files[0].lower().endswith(PICTURES)):
        frames = len(begun.files) - of_xml
    return replace(begun, frames=frames, rows=rows, columns=columns, bits=bits)


def _read(source: Source, begun: Surveyed, dataset: Dataset | None) -> Surveyed:
    ref = begun.scan.ref
    fetched = fetch_scan(source, ref, None)
    unreadable: tuple[tuple[str, str], ...] = ()
    try:
        voxels = read_fetched(fetched, ref, None, allowed=frozenset(ANY_CLASS)).voxels
    except DamagedScan:
        if not isinstance(fetched, FetchedMembers) or not can_leave_out(fetched, ref):
            raise
        fetched, errors = without_unreadable(fetched, ref)
        unreadable = tuple((key, _plain(error)) for key, error in errors)
        voxels = read_fetched(fetched, ref, None, allowed=frozenset(ANY_CLASS)).voxels
    frames, rows, columns = voxels.shape
    bits = 8 * voxels.dtype.itemsize
    if ref.reading.to_bytes and voxels.dtype == np.uint16:
        voxels = np.round(voxels / 257).astype(np.uint8)
    out = {key for key, _ in unreadable}
    read = replace(
        begun, files=tuple(key for key in begun.files if key not in out), frames=frames, rows=rows, columns=columns,
        bits=bits, sha256=checksum_of(voxels), unreadable=unreadable,
    )  # fmt: skip
    return _with_labels(source, read, fetched, dataset)


def checksum_of(voxels: Shaped[np.ndarray, "frames rows columns"]) -> str:
    """Give the SHA-256 of voxels in C order, numbers of several bytes with the lowest first."""
    ordered = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("<"))
    return sha256(ordered.tobytes()).hexdigest()


def _with_labels(
    source: Source, read: Surveyed, fetched: Fetched | FetchedMembers, dataset: Dataset | None
) -> Surveyed:
    """Add the labels that lie in the file with the voxels, or in a mask next to it."""
    if read.container not in (*SUFFIXES, "DICOM"):
        inside = numbers_in_file(read.scan, fetched)
        read = replace(read, labels=_all_labels(read.scan, read.labels, inside, dataset))
    if dataset is not None and dataset.masks:
        found = labels_of_mask(source, read.scan, dataset)
        read = replace(read, labels={**read.labels, **(found or {})}, has_mask=found is not None)
    return read


def _all_labels(
    scan: Scan, known: Mapping[str, str], inside: Mapping[str, float | str], dataset: Dataset | None
) -> dict[str, str]:
    """Add what lies in a file to what is known: of a public dataset the file knows best, of others the table."""
    labels = as_meant(scan, inside, dataset)
    return {**labels, **known, **(labels if dataset else {})}


def _gaps(scan: Scan, objects: Sequence[ObjectInfo]) -> tuple[int, ...]:
    if scan.numbers:
        return tuple(sorted(set(range(min(scan.numbers), max(scan.numbers) + 1)) - set(scan.numbers)))
    stacked = len(objects) > 1 and all(info.key.lower().endswith(PICTURES) for info in objects)
    return tuple(missing_numbers([info.key.rpartition("/")[2] for info in objects])) if stacked else ()


def _plain(error: Exception) -> str:
    """Give the words of an error without the digest that it begins with."""
    return str(error).partition(": ")[2] or str(error)
