"""Files in a store that no store wrote: a desktop's notes, a sync client's copies, a README. Ignored, and named."""

import re

from embeddings_store.creation import is_claim
from embeddings_store.storage import Storage

_OWN = re.compile(
    r"""
    zarr\.json | layout\.crc32c | (?:encoder|dataset|reading)\.json | LATEST
    | index/\d{6}-[0-9a-f]+(?:-[0-9a-f]{8})?\.parquet
    | (?:workers|running)/\d+\.json
    | (?:errors/\d+(?:\.lifted)?|kinds/\d+)\.json
    | (?:pooled|facts|thumbnail|commit|tokens|scales)(?:/[^/.][^/]*)?/(?:c(?:\.\d+)+|zarr\.json)
    | snapshots/\d+(?:\.index\.parquet|\.crc32c|\.[0-9a-f]{32}\.claim|/zarr\.json)
    | snapshots/\d+/[^/.][^/]*/(?:c(?:/\d+)*|zarr\.json)
    | snapshots/LATEST
    | packs/(?:packing\.[0-9a-f]{32}|\d{6,}\.[0-9a-f]{32}\.(?:pooled|facts|thumbnail|kinds|commit|\d+\.dropped))
    """,
    re.VERBOSE,
)
_DERIVED = re.compile(r"derived/[0-9a-f]{16}/")
"""A store of its own lies there."""

ASIDE = re.compile(r"#\d+$")
"""Of a file that is being written aside."""

_DESKTOP = frozenset({"thumbs.db", "desktop.ini"})


def foreign_files(storage: Storage) -> list[str]:
    """Return the paths that belong to no store, sorted; files that are being written aside are none."""
    return sorted(path for path in storage.list_paths("") if not is_own(path))


def is_desktop_file(path: str) -> bool:
    """Return whether a file is what a desktop leaves in any folder: hidden, or of a well-known name."""
    name = path.rpartition("/")[2]
    return name.startswith(".") or name.lower() in _DESKTOP


def is_own(path: str) -> bool:
    """Return whether a store writes files of this name."""
    if below := _DERIVED.match(path):
        return is_own(path[below.end() :])
    return _OWN.fullmatch(path) is not None or is_claim(path) or ASIDE.search(path) is not None
