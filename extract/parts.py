"""The other parts of a volume that is stored in several objects: found in the folder of the first, whoever asks."""

from mmap import ACCESS_READ, mmap
from pathlib import Path
from threading import Lock

from embeddings_store.schema import AI_READI_FOLDER, ObjectInfo, VolumeRef, volume_id
from extract.bucket.source import Fetched, RangeRefused, RangeSource, Source
from extract.dicom.concatenation import Part, order_parts, part_of_file
from extract.dicom.header import FileBytes
from extract.errors import DicomError, FetchError, IncompleteConcatenation, PartOfVolume
from extract.layouts.ai_readi import parse_object
from extract.layouts.contract import DICOM, Skip, junk_of
from extract.partial.reader import HEAD_BYTES


class PartFinder:
    """Looks at the objects of a folder once for the whole run, at the header of each; called from many threads.

    The row of a volume in several objects belongs to the object with part 1, which is found from each of them alone: so
    processes need not speak with each other, and a run that was killed goes on with any of them.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._folders: dict[str, dict[ObjectInfo, Part]] = {}
        self._unread: dict[str, FetchError] = {}
        self._lock = Lock()

    def gather(self, ref: VolumeRef, first: Fetched) -> list[Fetched]:
        """Fetch the other parts, in any order, of the volume whose part 1 this object is.

        Raises: PartOfVolume for another part of a volume whose part 1 is there; IncompleteConcatenation, naming what is
        missing; FetchError, BucketError.
        """
        own = part_of_file(first.data, first.size)
        if own is None:
            raise IncompleteConcatenation(f"{ref.volume}: the object changed while its volume was read")
        folder = ref.key.rpartition("/")[0] + "/"
        others = {
            other: part
            for other, part in self._look_into(folder).items()
            if own.whole and part.whole == own.whole and other.key != ref.key
        }
        firsts = sorted(other.key for other, part in others.items() if part.number == 1)
        if own.number not in {None, 1} and firsts:
            whole = volume_id(firsts[0])
            raise PartOfVolume(f"{ref.volume}: {own.describe()} of the volume {whole}, whose row holds it", whole)
        try:
            order_parts([own, *others.values()], ref.volume)
        except IncompleteConcatenation:
            if folder in self._unread:  # it may be the part that is missing
                raise self._unread[folder] from None
            raise
        return [self._source.fetch(other) for other in others]

    def _look_into(self, folder: str) -> dict[ObjectInfo, Part]:
        with self._lock:
            if folder in self._folders and folder not in self._unread:
                return self._folders[folder]
            self._unread.pop(folder, None)
            found = dict[ObjectInfo, Part]()
            for info in self._source.list_objects(folder):
                part = self._look_at(info, folder) if _may_be_part(info) else None
                if part is not None:
                    found[info] = part
            self._folders[folder] = found
            return found

    def _look_at(self, info: ObjectInfo, folder: str) -> Part | None:
        """Read what an object says of its place; one that cannot be read says nothing."""
        try:
            return self._read(info)
        except FetchError as error:
            self._unread[folder] = error
        except DicomError:
            pass
        return None

    def _read(self, info: ObjectInfo) -> Part | None:
        if isinstance(self._source, RangeSource):
            try:
                start = self._source.fetch_range(info, 0, HEAD_BYTES)
                return part_of_file(start.data, start.size)
            except (RangeRefused, DicomError):  # no ranges, a header that is longer, or a file that is deflated
                pass
        whole = self._source.fetch(info)
        return part_of_file(whole.data, whole.size)


def parts_beside(file: Path, data: FileBytes) -> list[Path]:
    """Find the other parts of a volume from the folder of one of them, in any order; data: what this file holds."""
    own = part_of_file(data, len(data))
    if own is None or not own.whole:
        return []
    others = (other for other in sorted(file.parent.iterdir()) if other.is_file() and not other.samefile(file))
    found = ((other, _part_in(other)) for other in others)
    return [other for other, part in found if part is not None and part.whole == own.whole]


def _part_in(file: Path) -> Part | None:
    """Read what a file says of its place; one that cannot be read, or is no DICOM, says nothing."""
    try:
        with file.open("rb") as stream:
            view = mmap(stream.fileno(), 0, access=ACCESS_READ)
        return part_of_file(view, len(view))
    except (OSError, ValueError, DicomError):  # ValueError: an empty file
        return None


def _may_be_part(info: ObjectInfo) -> bool:
    """Say whether an object can be a part of a volume; in AI-READI only one that its layout takes for a volume."""
    if info.key.startswith(AI_READI_FOLDER):
        return not isinstance(parse_object(info), Skip)
    return junk_of(info) is None and info.key.lower().endswith(DICOM)
