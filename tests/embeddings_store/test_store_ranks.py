"""Many writers on one store: rank 0 writes the index, the others wait and say so; the rows are those of one writer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_makers import SPACE, WORKER, make_ref, make_refs, memory_storage, write_rows

from embeddings_store.errors import StoreError, UsageError
from embeddings_store.index import IndexRow
from embeddings_store.ranks import Rank, Waiting, announce_volumes
from embeddings_store.reader import open_reader
from embeddings_store.storage import Storage
from embeddings_store.verify import verify_store
from embeddings_store.writer import open_writer, writer_on

LINES = [IndexRow(row, make_ref(row)) for row in range(40)]
WRITERS, VOLUMES = 8, 24
QUICK = Waiting(patience_s=5.0, pause_s=0.01)


@given(st.integers(1, 50))
def test_every_row_has_one_owner(count: int) -> None:
    owned = [line.row for number in range(count) for line in Rank(number, count).own(LINES)]
    assert sorted(owned) == [line.row for line in LINES]
    shares = [len(Rank(number, count).own(LINES)) for number in range(count)]
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("number", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_that_is_none_is_refused(number: int, count: int) -> None:
    with pytest.raises(UsageError, match=f"rank {number} of {count}"):
        Rank(number, count)


def segments(storage: Storage) -> int:
    return len(storage.list_paths("index"))


def test_the_others_wait_for_rank_0_and_say_so() -> None:
    storage, said = memory_storage(), list[str]()
    first, second = (writer_on(storage, SPACE, 10, WORKER) for _ in range(2))
    heard = Event()

    def tell(words: str) -> None:
        said.append(words)
        heard.set()

    late = Timer(0.1, lambda: (heard.wait(5), announce_volumes(first, make_refs(4), Rank(0, 2))))
    late.start()
    added = announce_volumes(second, make_refs(4), Rank(1, 2), Waiting(5.0, 0.01, tell))
    late.join()
    assert (added.new, added.known, segments(storage)) == (0, 4, 1)
    assert said == ["rank 1 of 2: rank 0 has yet to write 4 lines of the index; waiting"]


def test_they_wait_for_a_replaced_object_too() -> None:
    storage = memory_storage()
    first, second = (writer_on(storage, SPACE, 10, WORKER) for _ in range(2))
    announce_volumes(first, make_refs(2), Rank(0, 2))
    with pytest.raises(StoreError, match=r"rank 0 has yet to write 1 lines of the index, after .* is it running"):
        announce_volumes(second, [make_ref(0), make_ref(1, size=7)], Rank(1, 2), Waiting(0.05, 0.01, lambda _: None))
    assert segments(storage) == 1


@pytest.mark.parametrize("share", ["disjoint rows", "the same rows"])
def test_eight_writers_leave_what_one_leaves(tmp_path: Path, share: str) -> None:
    def fill(number: int) -> None:
        rank = Rank(number, WRITERS)
        writer = open_writer(str(tmp_path / "eight"), SPACE, capacity=100, worker=WORKER)
        announce_volumes(writer, make_refs(VOLUMES), rank, QUICK)
        missing = writer.missing_rows()
        write_rows(writer, [line.row for line in (rank.own(missing) if share == "disjoint rows" else missing)])

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(fill, reversed(range(WRITERS))))
    one = open_writer(str(tmp_path / "one"), SPACE, capacity=100, worker=WORKER)
    one.add_volumes(make_refs(VOLUMES))
    write_rows(one, range(VOLUMES))

    eight, alone = open_reader(str(tmp_path / "eight")), open_reader(str(tmp_path / "one"))
    assert eight.index().equals(alone.index())
    assert eight.committed().all()
    for place, array in enumerate(eight.arrays.all[:-1]):
        for row in range(VOLUMES):
            np.testing.assert_array_equal(
                array.read(eight.storage, row), alone.arrays.all[place].read(alone.storage, row)
            )
    found = verify_store(str(tmp_path / "eight"))
    assert (found["checked"], found["bad"], found["orphans"], found["damaged_files"]) == (VOLUMES, 0, 0, {})
    assert segments(eight.storage) == 1
    assert not list((tmp_path / "eight").rglob("*#*"))
