"""Two processes that do the same rows of a store notice each other; those that share them, and the dead, are let be."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from store_makers import SPACE, WORKER, memory_storage

from embeddings_store import presence
from embeddings_store.foreign import foreign_files
from embeddings_store.presence import FOLDER, Presence, at_work
from embeddings_store.ranks import Rank
from embeddings_store.storage import Storage, open_storage
from embeddings_store.writer import writer_on

START = datetime(2026, 1, 1)


class Slow(Storage):
    """A store whose clock a test moves: what is put now has the time ``now``."""

    def __init__(self) -> None:
        super().__init__("memory", memory_storage().objects)
        object.__setattr__(self, "clock", {"now": 0, "written": {}})

    def move(self, seconds: int) -> None:
        self.clock["now"] += seconds  # type: ignore[attr-defined]

    def put(self, path: str, *parts: object) -> None:
        super().put(path, *parts)
        self.clock["written"][path] = self.clock["now"]  # type: ignore[attr-defined]

    def list_times(self, folder: str) -> dict[str, datetime]:
        written = self.clock["written"]  # type: ignore[attr-defined]
        return {path: START + timedelta(seconds=written[path]) for path in super().list_times(folder)}


def pair(one: tuple[int, int], other: tuple[int, int]) -> tuple[Slow, Presence, Presence, list[str]]:
    store, said = Slow(), list[str]()
    return store, *(Presence(store, n, Rank(*rank), said.append) for n, rank in enumerate((one, other), 1)), said


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ((0, 1), (0, 1), True),
        ((0, 1), (3, 4), True),
        ((1, 2), (3, 4), True),
        ((0, 2), (3, 4), False),
        ((0, 4), (1, 4), False),
        ((2, 4), (2, 4), True),
        ((0, 2), (0, 3), True),
    ],
)
def test_those_whose_rows_overlap_notice_each_other(one: tuple[int, int], other: tuple[int, int], meet: bool) -> None:
    store, first, second, said = pair(one, other)
    for _ in range(3):
        for who in (first, second):
            store.move(5)
            who.beat()
    assert [first.twins, second.twins] == [int(meet)] * 2
    assert len(said) == 2 * meet
    if meet:
        assert said[0] == (
            f"another process is at work on memory, as rank {other[0]} of {other[1]}; this one is rank {one[0]} of "
            f"{one[1]}: what both select is done twice. Where they were meant to share the volumes, stop them, and say "
            "--rank and --ranks"
        )


def test_who_began_first_notices_at_its_next_sign_and_the_other_at_the_one_after() -> None:
    store, first, second, _ = pair((0, 1), (0, 1))
    seen = []
    for who in (first, second, first, second):
        store.move(5)
        who.beat()
        seen.append((first.twins, second.twins))
    assert seen == [(0, 0), (0, 0), (1, 0), (1, 1)]


def test_the_sign_of_one_that_was_killed_is_let_be_and_in_the_end_deleted() -> None:
    store, killed, again, said = pair((0, 1), (0, 1))
    killed.beat()
    for _ in range(4):
        store.move(20)
        again.beat()
    assert (said, len(store.list_paths(FOLDER))) == ([], 2)
    store.move(25 * 3600)
    again.beat()
    assert store.list_paths(FOLDER) == [f"{FOLDER}/2.json"]
    again.leave()
    assert store.list_paths(FOLDER) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"rank": "a", "ranks": 1}', b'{"rank": 0, "ranks": 0}'])
def test_a_sign_of_another_version_is_no_twin(body: bytes) -> None:
    store, mine, _, said = pair((0, 1), (0, 1))
    mine.beat()
    store.move(1)
    store.put(f"{FOLDER}/7.json", body)
    mine.beat()
    assert (said, mine.twins) == ([], 0)


@pytest.mark.parametrize("place", [lambda _: memory_storage(), lambda folder: open_storage(str(folder), create=True)])
def test_signs_are_files_of_the_store_and_go_with_the_run(
    place: Callable[[Path], Storage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.02)
    storage, said = place(tmp_path / "store"), list[str]()
    writers = [writer_on(storage, SPACE, 4, WORKER) for _ in range(2)]
    alone = Rank(0, 1)
    with (
        at_work(storage, writers[0].worker_id, alone, said.append) as first,
        at_work(storage, writers[1].worker_id, alone, said.append) as second,
    ):
        while not (first.twins and second.twins):
            presence.Event().wait(0.01)
        signs = storage.list_paths(FOLDER)
        assert len(signs) == 2
        assert json.loads(bytes(storage.get(signs[0]) or b"")) == {"rank": 0, "ranks": 1}
        assert foreign_files(storage) == []
    assert storage.list_paths(FOLDER) == []
    assert (first.twins, second.twins, len(said)) == (1, 1, 2)
