"""Checksums of whole files in a list beside them, so that a flipped byte is found that no reader would mind.

A line a file, "<crc32c>  <path>", as the tools for sums write them; the last line is the sum of those above.
A small record of its own (a worker, an error) carries its sum as its last field.
"""

import json
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np

from embeddings_store.documents import parse_object
from embeddings_store.storage import Storage

ROOT_DOCUMENT = "zarr.json"
SEAL = "crc32c"
MISSING, CHANGED = "it is missing", "its checksum is another"


def checksum(body: Any) -> int:
    """Compute crc32c (RFC 3720) of a buffer."""
    return int(google_crc32c.value(np.frombuffer(body, dtype=np.uint8)))


def checksum_list(files: Mapping[str, bytes]) -> bytes:
    """Write the list of some files."""
    lines = "".join(f"{checksum(body):08x}  {path}\n" for path, body in sorted(files.items()))
    return f"{lines}{checksum(lines.encode()):08x}\n".encode()


def parse_checksums(body: Any, alone: str = ROOT_DOCUMENT) -> dict[str, int] | None:
    """Read a list; None when it is damaged. A sum without a path, as schema 1 wrote it, is that of ``alone``."""
    *lines, own = bytes(body).decode(errors="replace").splitlines(keepends=True) or [""]
    try:
        if not lines:
            return {alone: int(own, 16)} if len(own.strip()) == len(f"{0:08x}") else None
        found = {path: int(crc, 16) for crc, path in (line.rstrip("\n").split("  ", 1) for line in lines)}
        return found if own == f"{checksum(''.join(lines).encode()):08x}\n" else None
    except ValueError:
        return None


def listed_faults(storage: Storage, list_path: str, folder: str, alone: str = ROOT_DOCUMENT) -> dict[str, str]:
    """Compare each file in a list with its sum: {path: what is wrong}. ``folder``: what paths lie below, "" or "x/"."""
    body = storage.get(list_path)
    if body is None:
        return {list_path: MISSING}
    sums = parse_checksums(body, alone)
    if sums is None:
        return {list_path: CHANGED}
    found: dict[str, str] = {}
    for path, crc in sums.items():
        one = storage.get(f"{folder}{path}")
        if one is None or checksum(one) != crc:
            found[f"{folder}{path}"] = MISSING if one is None else CHANGED
    return found


def sealed_json(record: Mapping[str, Any]) -> bytes:
    """Write a record as JSON, with the sum of its fields as the field SEAL."""
    return json.dumps({**record, SEAL: _seal(record)}, indent=1).encode()


def seal_fault(body: Any) -> str | None:
    """Return what is wrong with a sealed record; None where all is well, or where it is of schema 1 and has no seal."""
    try:
        record = parse_object(body)
        seal = record.pop(SEAL, None)
    except ValueError:
        return "it is no JSON record"
    return None if seal is None or seal == _seal(record) else CHANGED


def _seal(record: Mapping[str, Any]) -> str:
    return f"{checksum(json.dumps(record, sort_keys=True).encode()):08x}"
