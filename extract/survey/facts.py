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
from extract.errors import FetchError, ScanError
from extract.layouts.contract import PICTURES, Scan
from extract.layouts.dataset import Dataset
from extract.layouts.dicom_heads import first_bytes, read_tags
from extract.layouts.table import IDENTIFIERS
from extract.readers.contract import HEAD_BYTES, ScanFile
from extract.readers.natural import missing_numbers
from extract.readers.open import reader_for, volumes_in
from extract.scan import read_fetched, read_options
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
    except ScanError:
        if dataset is None or not isinstance(fetched, FetchedMembers) or fetched.frames is None:
            raise  # as an extraction would refuse it; of a public dataset it is known which files are damaged
        fetched, unreadable = _without_unreadable(fetched, begun.scan)
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


def _without_unreadable(fetched: FetchedMembers, scan: Scan) -> tuple[FetchedMembers, tuple[tuple[str, str], ...]]:
    """Try each picture alone, and leave out those that do not open. Raises: ScanError where it is none of them."""
    kept, unreadable = [], []
    for place, info, got in fetched.objects:
        one = FetchedMembers(((place, info, got),), info.size, info.etag, got.md5, (0,), 1)
        try:
            read_fetched(one, scan.ref, None)
            kept.append((place, info, got))
        except ScanError as error:
            unreadable.append((info.key, _plain(error)))
    numbers = tuple(range(len(kept)))
    again = FetchedMembers(tuple(kept), fetched.size, fetched.etag, bytes(16), numbers, len(kept))
    if not kept or not unreadable:
        read_fetched(fetched, scan.ref, None)
    return again, tuple(unreadable)


def _with_labels(
    source: Source, read: Surveyed, fetched: Fetched | FetchedMembers, dataset: Dataset | None
) -> Surveyed:
    """Add the labels that lie in the file with the voxels, or in a mask next to it."""
    if isinstance(fetched, Fetched) and read.container not in SUFFIXES and read.container != "DICOM":
        files = [ScanFile(read.scan.ref.key, fetched.data)]
        (inside, *_) = volumes_in(files, ref=read.scan.ref, options=read_options(read.scan.ref.reading))
        read = replace(read, labels=_all_labels(read.scan, read.labels, inside.labels, dataset))
    if dataset is not None and dataset.masks:
        found = _mask_values(source, read.scan)
        told = (
            {name: str(int(number in found)) for number, name in enumerate(dataset.masks, 1)}
            if found is not None
            else {}
        )
        read = replace(read, labels={**read.labels, **told}, has_mask=found is not None)
    return read


def _all_labels(
    scan: Scan, known: Mapping[str, str], inside: Mapping[str, float | str], dataset: Dataset | None
) -> dict[str, str]:
    """Add what lies in a file to what is known: of a public dataset the file knows best, of others the table."""
    held = {name: _as_text(value) for name, value in inside.items()}
    labels = held if dataset is None else {} if dataset.inside is None else dataset.inside(scan, held)
    return {**labels, **known, **(labels if dataset else {})}


def _mask_values(source: Source, scan: Scan) -> frozenset[int] | None:
    """Give the values of the mask named reference next to a volume; None where there is none."""
    folder = scan.ref.key.rpartition("/")[0]
    files, objects = (
        [],
        [info for info in source.list_objects(folder + "/") if "/reference." in f"/{info.key[len(folder) + 1 :]}"],
    )
    if not objects:
        return None
    for info in objects:
        files.append(ScanFile(info.key, source.fetch(info).data))
    from extract.readers.open import read_scan

    return frozenset(np.unique(read_scan(files, ref=scan.ref).voxels).astype(int).tolist())


def _as_text(value: float | str) -> str:
    """Write a number as a person would: whole ones without a point, others with seven digits."""
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else f"{value:.7g}"


def _gaps(scan: Scan, objects: Sequence[ObjectInfo]) -> tuple[int, ...]:
    if scan.numbers:
        return tuple(sorted(set(range(min(scan.numbers), max(scan.numbers) + 1)) - set(scan.numbers)))
    stacked = len(objects) > 1 and all(info.key.lower().endswith(PICTURES) for info in objects)
    return tuple(missing_numbers([info.key.rpartition("/")[2] for info in objects])) if stacked else ()


def _plain(error: Exception) -> str:
    """Give the words of an error without the digest that it begins with."""
    return str(error).partition(": ")[2] or str(error)
