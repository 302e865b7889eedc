"""Small files of many rows in one object each: what a pack is, and a storage that finds a row's files in packs.

Everything above it reads, lists and deletes single files as ever. The protocol: docs/store-format.md, chapter 11.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt32
from obstore.store import LocalStore

from embeddings_store.arrays import CRC_BYTES, CRC_RESIDUE
from embeddings_store.checksums import checksum
from embeddings_store.errors import StoreError
from embeddings_store.pack_claim import FOLDER, await_packers, is_claim
from embeddings_store.regular_file import require_regular
from embeddings_store.storage import Storage, concurrently

SPAN = 1024
"""Rows of a pack: those whose number divided by it is the pack's."""
PATHS = {
    "pooled": "pooled/c.{}.0.0.0",
    "facts": "facts/c.{}.0",
    "thumbnail": "thumbnail/c.{}.0.0.0",
    "kinds": "kinds/{}.json",
    "commit": "commit/c.{}.0",
}
"""What is packed, the commit last, and where a row's single file lies."""
KINDS = tuple(PATHS)
COMMIT = len(KINDS) - 1
FRESH_S = 1.0
KEPT_BYTES = 1 << 28
PATIENCE_S = 30.0
_SINGLE = re.compile("|".join(path.replace(".", r"\.").format(f"(?P<{kind}>[0-9]+)") for kind, path in PATHS.items()))
_OBJECT = re.compile(rf"(?P<pack>{FOLDER}/[0-9]{{6,}}\.[0-9a-f]{{32}})\.(?P<end>{'|'.join(KINDS)}|[0-9]+\.dropped)")
_TABLE = (len(KINDS), SPAN + 1)
_TABLE_BYTES = 4 * len(KINDS) * (SPAN + 1) + CRC_BYTES


@dataclass(frozen=True, slots=True)
class Pack:
    """One pack. table: bytes of each row's file, by kind, and last the crc of all of a kind.

    ends: where the files end; commits: the object after its first table; whole: both tables are, and every commit.
    """

    name: str
    table: UInt32[np.ndarray, "5 1025"]
    ends: np.ndarray
    commits: memoryview
    whole: bool

    @property
    def number(self) -> int:
        """Which rows: SPAN from SPAN times this."""
        return int(self.name.rpartition("/")[2].partition(".")[0])

    def rows(self, kind: int) -> list[int]:
        """List the rows that have a file of a kind, dropped ones included."""
        found: list[int] = (np.flatnonzero(self.table[kind, :SPAN]) + self.number * SPAN).tolist()
        return found

    def place(self, kind: int, row: int) -> tuple[int, int]:
        """Return where a row's file begins in the object of its kind, and its bytes; 0 when it has none."""
        size = int(self.table[kind, row % SPAN])
        return int(self.ends[kind, row % SPAN]) - size, size


def pack_table(table: UInt32[np.ndarray, "5 1025"]) -> bytes:
    """Write a table with its crc."""
    body = table.astype("<u4").tobytes()
    return body + checksum(body).to_bytes(CRC_BYTES, "little")


def parse_pack(name: str, body: memoryview) -> Pack | None:
    """Read the object of a pack's commits; None where both of its tables are damaged."""
    copies = [body[:_TABLE_BYTES], body[max(_TABLE_BYTES, len(body) - _TABLE_BYTES) :]]
    good = [copy for copy in copies if len(copy) == _TABLE_BYTES and checksum(copy) == CRC_RESIDUE]
    if not good:
        return None
    table = np.frombuffer(good[0][:-CRC_BYTES], dtype="<u4").reshape(_TABLE)
    ends = table[:, :SPAN].cumsum(axis=1, dtype=np.int64)
    commits = body[_TABLE_BYTES : _TABLE_BYTES + int(ends[COMMIT, -1])]
    return Pack(name, table, ends, commits, len(good) == 2 and checksum(commits) == int(table[COMMIT, SPAN]))


@dataclass(frozen=True, slots=True)
class Shelf:
    """All packs at one moment, by number; dropped: (name of a pack, row)."""

    packs: Mapping[int, tuple[Pack, ...]] = field(default_factory=dict)
    dropped: frozenset[tuple[str, int]] = frozenset()
    packers: bool = False
    seen_s: float = -FRESH_S

    def holders(self, row: int) -> list[Pack]:
        """Return the packs that hold a row."""
        found = self.packs.get(row // SPAN, ())
        return [pack for pack in found if pack.table[COMMIT, row % SPAN] and (pack.name, row) not in self.dropped]

    def sizes(self, kind: int) -> dict[int, int]:
        """List the rows that have a file of a kind, with its bytes."""
        found: dict[int, int] = {}
        for pack in (pack for packs in self.packs.values() for pack in packs):
            rows = pack.rows(kind)
            sizes = zip(rows, pack.table[kind, [row % SPAN for row in rows]].tolist(), strict=True)
            found |= {row: size for row, size in sizes if (pack.name, row) not in self.dropped}
        return found


@dataclass(slots=True)
class _Cache:
    shelf: Shelf = field(default_factory=Shelf)
    known: dict[str, Pack] = field(default_factory=dict)
    bodies: OrderedDict[str, memoryview] = field(default_factory=OrderedDict)
    looking: Lock = field(default_factory=Lock)
    getting: Lock = field(default_factory=Lock)


@dataclass(frozen=True, slots=True)
class PackedStorage(Storage):
    """A storage whose rows' small files may lie in packs; they are read, listed and deleted like single ones."""

    inner: Storage
    _cache: _Cache = field(default_factory=_Cache, repr=False, compare=False)

    def put(self, path: str, *parts: Any) -> None:
        """Write one object; a commit that is put singly takes its row out of the packs."""
        kind, row = _single(path)
        # Looked at before: a pack that comes after may hold this very commit, whose single file then goes.
        holders = self._fresh().holders(row) if kind == COMMIT else []
        self.inner.put(path, *parts)
        self.drop(row, holders)

    def get(self, path: str) -> memoryview | None:
        """Read one object whole; None when it is not there."""
        kind, row = _single(path)
        if kind is None:
            return self.inner.get(path)
        held, body = self._packed(self._known(), kind, row)
        if not held and (body := self.inner.get(path)) is None:
            _, body = self._packed(self.look(), kind, row, gone=memoryview(b""))
        return body

    def read_into(self, path: str, target: UInt8[np.ndarray, " bytes"]) -> Iterator[UInt8[np.ndarray, " block"]]:
        """Fill a buffer as Storage does."""
        kind, row = _single(path)
        held, body = (False, None) if kind is None else self._packed(self._known(), kind, row)
        if not held:
            came = False
            for block in self.inner.read_into(path, target):
                came = True
                yield block
            if came or kind is None:
                return
            _, body = self._packed(self.look(), kind, row, gone=memoryview(b""))
        if body is not None:
            data = np.frombuffer(body, dtype=np.uint8)
            target[: data.size] = data[: target.size]
            yield data

    def list_sizes(self, folder: str) -> dict[str, int]:
        """List every path below a folder with its size, those in packs included; "" lists what lies there."""
        found = self.inner.list_sizes(folder)  # before the packs: what moves meanwhile is then seen twice, not never
        if folder not in PATHS:
            return found
        packed = self.look().sizes(KINDS.index(folder))
        return found | {PATHS[folder].format(row): size for row, size in packed.items()}

    def delete(self, path: str) -> None:
        """Delete one object; a commit from the packs too, waiting for one who packs: it may have read it before."""
        self.inner.delete(path)
        kind, row = _single(path)
        if kind == COMMIT:
            self.drop(row, self._fresh().holders(row))
            while (shelf := self.look()).holders(row) or shelf.packers:
                self.drop(row, shelf.holders(row))
                await_packers(self.inner)
                self.inner.delete(path)

    def look(self) -> Shelf:
        """List the packs, and read what is new among them. Raises StoreError for one that is damaged."""
        deadline, before = time.monotonic() + PATIENCE_S, None
        while (began := time.monotonic()) < deadline:
            names = self.inner.list_paths(FOLDER)
            found = [(one["pack"], one["end"].partition(".")) for one in map(_OBJECT.fullmatch, names) if one]
            present = sorted(name for name, end in found if end[0] == KINDS[COMMIT])
            # Of a pack and the one that replaces it, one listing may show neither; two that are the same show one.
            if present == before or not (names or self._cache.shelf.packs):
                loaded = [pack for pack in concurrently(self._load, present, self.threads) if pack]
                if len(loaded) == len(present):
                    dropped = frozenset((name, int(end[0])) for name, end in found if end[2])
                    return self._remember(loaded, dropped, any(map(is_claim, names)), began)
            before = present
        raise StoreError(f"the packs of {self.url} changed again and again while they were listed; try again")

    def _remember(self, packs: list[Pack], dropped: frozenset[tuple[str, int]], packers: bool, began_s: float) -> Shelf:
        by_number: dict[int, tuple[Pack, ...]] = {}
        for pack in packs:
            by_number[pack.number] = (*by_number.get(pack.number, ()), pack)
        shelf = Shelf(by_number, dropped, packers, began_s)
        if began_s >= self._cache.shelf.seen_s:
            self._cache.known, self._cache.shelf = {pack.name: pack for pack in packs}, shelf
        return shelf

    def packed_file(self, kind: int, row: int) -> memoryview | None:
        """Read a row's file from its pack alone; None where no pack holds the row, or it has no such file."""
        return self._packed(self._known(), kind, row, gone=memoryview(b""))[1]

    def _known(self) -> Shelf:
        """Return the packs as of a moment ago, or none where none were seen at first: single files then will do."""
        shelf = self._cache.shelf
        return self._fresh() if shelf.packs or shelf.seen_s < 0 else shelf

    def _fresh(self) -> Shelf:
        with self._cache.looking:
            shelf = self._cache.shelf
            return shelf if time.monotonic() - shelf.seen_s < FRESH_S else self.look()

    def drop(self, row: int, holders: list[Pack]) -> None:
        """Take a row out of packs that hold it."""
        for pack in holders:
            self.inner.put(f"{pack.name}.{row}.dropped", b"")
            shelf = self._cache.shelf
            self._cache.shelf = replace(shelf, dropped=shelf.dropped | {(pack.name, row)})

    def _load(self, name: str) -> Pack | None:
        """Read a pack's table and commits, once more where they came damaged; None where it went away meanwhile."""
        if name in self._cache.known:
            return self._cache.known[name]
        pack = None
        for _ in range(2):
            body = self.inner.get(f"{name}.{KINDS[COMMIT]}")
            if body is None:
                return None
            pack = parse_pack(name, body) or pack
            if pack is not None and pack.whole:
                return pack
        if pack is None:
            raise StoreError(
                f"{self.url} is damaged: neither table of {name}.{KINDS[COMMIT]} has a right checksum; restore it from "
                f"a copy, or delete all {name}.*, and the next run encodes their rows again"
            )
        return pack

    def _packed(
        self, shelf: Shelf, kind: int, row: int, gone: memoryview | None = None
    ) -> tuple[bool, memoryview | None]:
        """Return whether a pack holds the row, and its file of a kind, if any. ``gone``: for one that is missing."""
        for pack in shelf.holders(row)[:1]:
            start, size = pack.place(kind, row)
            body = self._part(pack, kind, start, size) if size else None
            if body is None and size:
                return gone is not None, gone
            return True, body
        return False, None

    def _part(self, pack: Pack, kind: int, start: int, size: int) -> memoryview | None:
        """Read a part of an object of a pack; None where it is not there. Of a far server whole objects are kept."""
        path = f"{pack.name}.{KINDS[kind]}"
        if kind == COMMIT:
            return pack.commits[start : start + size]
        if not isinstance(self.objects, LocalStore):
            body = self._whole(path, int(pack.table[kind, SPAN]))
            return None if body is None else body[start : start + size]
        with self.as_store_error("read"):
            try:
                require_regular(Path(self.url) / path)
                with (Path(self.url) / path).open("rb", buffering=0) as stream:
                    stream.seek(start)
                    return memoryview(stream.read(size))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _whole(self, path: str, crc: int) -> memoryview | None:
        bodies = self._cache.bodies
        with self._cache.getting:
            if path in bodies:
                bodies.move_to_end(path)
                return bodies[path]
            for _ in range(2):
                body = self.inner.get(path)
                if body is None:
                    return None
                bodies[path] = body
                if checksum(body) == crc:
                    break
            while len(bodies) > 1 and sum(map(len, bodies.values())) > KEPT_BYTES:
                bodies.popitem(last=False)
            return bodies[path]


def packed(storage: Storage) -> PackedStorage:
    """Return a storage that looks into packs, too."""
    return storage if isinstance(storage, PackedStorage) else PackedStorage(storage.url, storage.objects, storage)


def packs_of(names: list[str]) -> dict[str, list[str]]:
    """Group the objects of packs by pack."""
    found: dict[str, list[str]] = {}
    for match in map(_OBJECT.fullmatch, names):
        if match:
            found.setdefault(match["pack"], []).append(match[0])
    return found


def pack_faults(storage: Storage) -> dict[str, str]:
    """Find packs whose table or commits are damaged in one place, while the rows can still be read."""
    shelf = packed(storage).look()
    worn = (pack for packs in shelf.packs.values() for pack in packs if not pack.whole)
    return {f"{pack.name}.{KINDS[COMMIT]}": "a table, or a commit, has another checksum" for pack in worn}


def _single(path: str) -> tuple[int | None, int]:
    """Return kind and row of a row's small file; None for other paths."""
    found = _SINGLE.fullmatch(path)
    if found is None or found.lastgroup is None:
        return None, 0
    return KINDS.index(found.lastgroup), int(found[found.lastgroup])
