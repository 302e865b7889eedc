"""What an ETag says: which version of an object this is, and in most buckets its md5."""

from threading import Lock

from embeddings_store.schema import Note

MD5_DIGITS = 32
ENOUGH_OBJECTS = 3
"""How many whole objects, each come twice with the same bytes, must differ from their ETags before these are no md5."""


def clean_etag(told: str) -> str:
    """Give an ETag without its quotes and its mark of weakness."""
    return told.strip().removeprefix("W/").strip('"')


def folder_etag(size: int, changed_ns: int) -> str:
    """Make what stands for an ETag of a local file: its size and its time of change."""
    return f"{size:x}-{changed_ns:x}"


def note_of_etag(etag: str, size: int, md5: bytes) -> Note:
    """Say why the bytes of a whole object were not compared with its md5: NONE where they were, or of a local file.

    An ETag that looks like an md5 and is another is the server's encryption or another digest, for the object came all
    the same; one of an upload in parts, of another length, or none at all, says nothing of the bytes.
    """
    if etag.startswith(folder_etag(size, 0)[:-1]):
        return Note.NONE
    if len(etag) != MD5_DIGITS or "-" in etag:
        return Note.MD5_UNCHECKED
    return Note.NONE if etag.lower() == md5.hex() else Note.ETAG_IS_NO_MD5


def is_weak(told: str) -> bool:
    """Tell whether an ETag is weak (RFC 9110, 8.8.1): it stands for the object, not for its bytes."""
    return told.strip().startswith("W/")


class EtagTrust:
    """What the objects of one source tell of its ETags. Thread-safe.

    One object that differs from its ETag is damaged. Where several differ, each came twice with the same bytes, and
    fewer agree, the ETags are no md5: XXH128, S3 Express, AWS Backup, or a key of the user's that no header names.
    """

    def __init__(self) -> None:
        self._agree, self._differ = set[str](), set[str]()
        self._came = dict[str, bytes]()
        self._lock = Lock()

    def agree(self, key: str) -> None:
        """Note an object whose md5 is its ETag."""
        with self._lock:
            self._agree.add(key)
            self._came.pop(key, None)
            self._differ.discard(key)

    def differ(self, key: str, md5: bytes) -> bool:
        """Note an object of the right length whose md5 is not its ETag; tell whether the same bytes came before."""
        with self._lock:
            same = self._came.get(key) == md5
            self._came[key] = md5
            if same:
                self._differ.add(key)
            return same

    @property
    def are_no_md5(self) -> bool:
        """Tell whether ETags that look like an md5 are none here."""
        with self._lock:
            return len(self._differ) >= ENOUGH_OBJECTS and len(self._differ) > len(self._agree)
