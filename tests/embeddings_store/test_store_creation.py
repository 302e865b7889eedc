"""Two processes that make different stores at the same place and instant: one store comes out, of one space."""

import random
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from store_makers import POOLED_ONLY, SPACE, WORKER, make_refs, memory_storage

from embeddings_store import creation
from embeddings_store.creation import claims, sole_creation
from embeddings_store.errors import SpaceMismatchError, StoreError
from embeddings_store.layout import load_layout
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import Storage
from embeddings_store.writer import writer_on

ROUNDS = 8


@dataclass(frozen=True, slots=True)
class SlowStorage(Storage):
    """A place where every PUT takes a while, another one each time."""

    rng: random.Random = field(default_factory=random.Random)

    def put(self, path: str, *parts: Any) -> None:
        time.sleep(self.rng.uniform(0.0, 0.002))
        Storage.put(self, path, *parts)


@dataclass(frozen=True, slots=True)
class ReplacingStorage(Storage):
    """A gateway that has no document for a moment while another process writes it anew, as rclone does."""

    document: str = ""
    gone: list[int] = field(default_factory=lambda: [2])

    def get(self, path: str) -> memoryview | None:
        body = Storage.get(self, path)
        if path == self.document and body is not None and self.gone[0]:
            self.gone[0] -= 1
            return None
        return body


def race(storage: Storage, spaces: list[EmbeddingSpace], seed: int) -> list[EmbeddingSpace | str]:
    """Let one thread a space make the store; give what each got, "refused" for a SpaceMismatchError."""
    results: list[EmbeddingSpace | str] = ["nothing"] * len(spaces)

    def make(place: int) -> None:
        slow = SlowStorage(storage.url, storage.objects, random.Random(seed * 10 + place))
        try:
            writer = writer_on(slow, spaces[place], 10, WORKER)
            writer.add_volumes(make_refs(1))
            results[place] = writer.space
        except SpaceMismatchError:
            results[place] = "refused"

    threads = [threading.Thread(target=make, args=(place,)) for place in range(len(spaces))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("other", [replace(SPACE, precision="bf16"), POOLED_ONLY], ids=["same shapes", "other arrays"])
def test_of_two_spaces_one_is_made_whole_and_the_other_refused(other: EmbeddingSpace) -> None:
    for seed in range(ROUNDS):
        storage = memory_storage()
        results = race(storage, [SPACE, other], seed)
        found = load_layout(storage)
        assert found is not None
        assert sorted(map(str, results)) == sorted(["refused", str(found[0])])
        assert claims(storage) == []


def test_two_creators_of_one_space_do_not_wait_for_each_other() -> None:
    storage = memory_storage()
    assert race(storage, [SPACE, SPACE], 0) == [SPACE, SPACE]
    assert claims(storage) == []


@pytest.mark.parametrize("document", ["zarr.json", "pooled/zarr.json"])
def test_a_document_that_another_process_writes_anew_is_looked_for_again(document: str) -> None:
    storage = memory_storage()
    assert writer_on(ReplacingStorage(storage.url, storage.objects, document), SPACE, 10, WORKER).space == SPACE


def test_a_place_that_gives_nothing_back_is_refused() -> None:
    storage = memory_storage()
    with pytest.raises(StoreError, match="does not give back what was written to it"):
        writer_on(ReplacingStorage(storage.url, storage.objects, "zarr.json", [99]), SPACE, 10, WORKER)


def test_a_claim_of_a_killed_run_with_other_settings_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "PATIENCE_S", 0.0)
    storage = memory_storage()
    storage.put("creating-other-10-abc", b"")
    storage.put("tokens/9/zarr.json", b"")
    with pytest.raises(StoreError, match="delete creating-other-10-abc there"):
        writer_on(storage, SPACE, 10, WORKER)
    for path in ("creating-other-10-abc", "tokens/9/zarr.json"):
        storage.delete(path)
    assert writer_on(storage, SPACE, 10, WORKER).space == SPACE


def test_a_claim_of_a_killed_run_with_the_same_settings_does_not_matter() -> None:
    storage = memory_storage()
    storage.put(f"creating-{SPACE.id}-10-abc", b"")
    writer_on(storage, SPACE, 10, WORKER)
    assert claims(storage) == []


def test_a_creation_that_fails_takes_its_claim_back() -> None:
    storage = memory_storage()
    with pytest.raises(StoreError, match="disk full"), sole_creation(storage, "x"):
        raise StoreError("disk full")
    assert claims(storage) == []
