"""What --store says: one address, or a name and an address for each of several stores."""

from collections.abc import Mapping

from classify.cohort.questions import Level
from classify.features.fused import FusedSnapshot, fuse, stores_of_space
from classify.features.stores import ReadStore
from classify.run.record import RunRecord, SnapshotRead
from embeddings_store.command_line import several
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot


def name_stores(store: str | tuple[str, ...]) -> dict[str, str]:
    """Return the addresses by name; {"": address} of one store, whose address may hold an equals sign.

    Raises: UsageError for a missing, odd or repeated name.
    """
    given = several(store)
    if len(given) == 1:
        return {"": given[0]}
    found: dict[str, str] = {}
    for text in given:
        name, _, address = text.partition("=")
        if not name or not address or "/" in name:
            raise UsageError(
                f"--store: expected NAME=ADDRESS of each of several stores, such as oct=store, got {text!r}"
            )
        if name in found:
            raise UsageError(f"--store: the name {name} stands twice; give each store a name of its own")
        found[name] = address
    return found


def numbers_of(stored: Snapshot) -> SnapshotRead:
    """Return what a record says of several stores' snapshots: the number of each that has one."""
    if not isinstance(stored, FusedSnapshot):
        return {}
    return {"numbers": {name: part.number for name, part in stored.parts.items() if part.number is not None}}


def open_stores(store: str | tuple[str, ...], read: ReadStore, level: Level) -> Snapshot:
    """Read a store, or several side by side (see fuse). Raises: UsageError, CohortError, StoreError."""
    named = name_stores(store)
    if "" in named:
        return read(named[""])
    return fuse({name: read(address) for name, address in named.items()}, level)


def open_stores_of(
    record: RunRecord, store: str | tuple[str, ...], read: ReadStore, level: Level, *, then: bool = False
) -> Snapshot:
    """Read the stores that a run asks for, by its names and in its order. then: as they were when it was made.

    Raises: UsageError where other stores are given than the run was made from; StoreError.
    """
    named, wanted = _of_run(record, store), stores_of_space(record.asked.embedding_space)
    snapshot = record.asked.snapshot
    if not wanted:
        number = snapshot.get("number")
        return read(named[""], number if isinstance(number, int) else None) if then else read(named[""])
    numbers: Mapping[str, int] = snapshot.get("numbers", {}) if then else {}
    return fuse({name: read(named[name], *([numbers[name]] if name in numbers else [])) for name in wanted}, level)


def _of_run(record: RunRecord, store: str | tuple[str, ...]) -> dict[str, str]:
    named, wanted = name_stores(store), stores_of_space(record.asked.embedding_space)
    if set(named) == set(wanted or ("",)):
        return named
    if not wanted:
        raise UsageError(f"--store: run {record.id} was made from one store; got {len(named)} ({', '.join(named)})")
    given = ", ".join(named) if "" not in named else "one without a name"
    asked = " ".join(f"--store {name}=ADDRESS" for name in wanted)
    raise UsageError(
        f"--store: run {record.id} was made from the stores {', '.join(wanted)}; expected {asked}, got {given}"
    )
