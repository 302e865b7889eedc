"""Packing: small files of many rows in one object each, and every promise of the store as before."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from command_line import Command
from store_makers import (
    FAILURE,
    POOLED_ONLY,
    SPACE,
    WORKER,
    CutOffStorage,
    facts_of,
    make_ref,
    make_refs,
    memory_storage,
    pooled_of,
    thumbnail_of,
    tokens_of,
    write_rows,
)

from embeddings_store import pack_claim, packs
from embeddings_store.arrays import arrays_of
from embeddings_store.errors import StoreError
from embeddings_store.kinds import kind_path, read_kinds
from embeddings_store.pack import PackReport, pack_on, pack_store
from embeddings_store.packs import KINDS, PATHS, SPAN
from embeddings_store.reader import StoreReader, open_reader, reader_on
from embeddings_store.schema import Kind
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.space import EmbeddingSpace
from embeddings_store.status import store_status
from embeddings_store.storage import Storage
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, clear_errors, open_writer, writer_on

FAR = SPAN + 1
"""A row of the second pack."""


@pytest.fixture(autouse=True)
def _the_killed_are_soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_claim, "DEAD_S", 0.0)
    monkeypatch.setattr(pack_claim, "PAUSE_S", 0.001)


def fill(writer: StoreWriter, rows: tuple[int, ...] = (0, 1, 2, 4)) -> StoreWriter:
    """Write rows with kinds, one without a thumbnail, one error and one row that is missing."""
    writer.add_volumes(make_refs(6))
    for row in rows:
        kind = Kind("1.2.3", "OPT", f"ORIGINAL\\{row}") if row % 2 == 0 else None
        writer.write_row(
            row, pooled_of(row, writer.space), tokens_of(row, writer.space), replace(facts_of(row), kind=kind),
            bytes(range(16)), 1000 + row, None if row == 2 else thumbnail_of(row),
        )  # fmt: skip
    writer.write_error(3, FAILURE)
    return writer


def rows_of(reader: StoreReader) -> dict[str, Any]:
    """Return every number of every row."""
    rows = sorted(reader.arrays.commit.written_rows(reader.storage))
    pooled, facts, pictures, _ = reader.whole_rows(rows)
    return {
        "rows": rows,
        "pooled": pooled.tobytes(),
        "facts": facts.to_numpy().tobytes(),
        "thumbnails": (pictures.images.tobytes(), pictures.known.tolist()),
        "commits": reader.commits().to_numpy().tolist(),
        "kinds": read_kinds(reader.storage, rows).to_dict("records"),
        "tokens": [reader.committed_tokens(row)["last"].tobytes() for row in rows if reader.space.token_grid],
    }


def told(reader: StoreReader) -> dict[str, Any]:
    """Return everything that a store says."""
    return rows_of(reader) | {
        "committed": reader.committed().tolist(),
        "index": reader.index().to_dict("records"),
        "errors": reader.quarantined(),
        "status": store_status(reader) | {"snapshot": None},
    }


def small_files(storage: Storage) -> list[str]:
    names = getattr(storage, "inner", storage).list_paths("")
    return [path for path in names if path.partition("/")[0] in PATHS and not path.endswith("zarr.json")]


def objects_of(storage: Storage, end: str) -> list[str]:
    return [path for path in storage.list_paths("packs") if path.endswith(end)]


class PackContract:
    def test_everything_reads_as_before(self, url: str) -> None:
        writer = fill(open_writer(url, SPACE, capacity=2000, worker=WORKER))
        opened_before = open_reader(url)
        write_snapshot(url)
        before, checks, shot = told(open_reader(url)), verify_store(url), read_snapshot(url)
        foreseen = pack_store(url, dry_run=True)
        assert small_files(writer.storage), "a dry run writes nothing"

        done = pack_store(url)
        assert done == foreseen
        assert (done.rows_packed, done.rows, done.damaged_rows) == (4, 4, ())
        assert done.objects_after == len(open_reader(url).storage.list_paths(""))
        assert done.objects_after == done.objects_before - (3 * 4 + 3 + 3) + 5
        assert small_files(writer.storage) == []
        assert told(open_reader(url)) == told(opened_before) == before
        assert verify_store(url) == checks
        write_snapshot(url)
        again = read_snapshot(url)
        assert again.pooled.tobytes() == shot.pooled.tobytes()
        assert again.frame().equals(shot.frame()) and again.index.equals(shot.index)
        assert pack_store(url).rows_packed == 0, "a second call finds nothing to do"

    def test_a_store_grows_after_it_was_packed(self, url: str) -> None:
        writer = fill(open_writer(url, SPACE, capacity=2000, worker=WORKER), (0, 1))
        pack_store(url)
        assert [line.row for line in open_writer(url, SPACE, worker=WORKER).missing_rows()] == [2, 4, 5]
        write_rows(writer, [2, 4])
        other = memory_storage()
        write_rows(fill(writer_on(other, SPACE, 2000, WORKER), (0, 1)), [2, 4])
        same = ("rows", "pooled", "facts", "thumbnails", "kinds", "tokens")
        for _ in range(2):
            now, expected = told(open_reader(url)), told(reader_on(other))
            assert [now[name] for name in same] == [expected[name] for name in same]
            assert pack_store(url).damaged_rows == ()
        assert (len(objects_of(writer.storage, ".commit")), small_files(writer.storage)) == (1, [])

    def test_a_replaced_object_takes_its_row_out_of_the_pack(self, url: str) -> None:
        writer = fill(open_writer(url, SPACE, capacity=2000, worker=WORKER))
        pack_store(url)
        assert [line.row for line in writer.add_volumes([make_ref(1, size=7)]).replaced] == [1]
        for reader in (reader_on(writer.storage), open_reader(url)):
            assert reader.committed().tolist() == [True, False, True, False, True, False]
        with pytest.raises(StoreError, match="never written"):
            open_reader(url).pooled([1])
        pack_store(url)
        assert open_reader(url).committed().tolist() == [True, False, True, False, True, False]
        writer.write_row(1, pooled_of(77), tokens_of(77), facts_of(77), bytes(16), 7, thumbnail_of(77))
        for _ in range(2):
            np.testing.assert_array_equal(open_reader(url).vectors([1])[0][0], pooled_of(77))
            pack_store(url)
        assert verify_store(url)["bad"] == 0

    def test_retry_of_an_error_row_inside_a_pack(self, url: str) -> None:
        writer = fill(open_writer(url, SPACE, capacity=2000, worker=WORKER))
        pack_store(url)
        assert clear_errors(url) == ({FAILURE.error: 1}, {})
        assert 3 in [line.row for line in writer.missing_rows()]
        write_rows(writer, [3])
        writer.write_error(1, FAILURE)  # a row that a pack holds stays as it is
        for _ in range(2):
            assert open_reader(url).committed().tolist() == [True, True, True, True, True, False]
            np.testing.assert_array_equal(open_reader(url).vectors([3])[0][0], pooled_of(3))
            pack_store(url)
        assert open_reader(url).errors() == []

    def test_verify_names_the_one_bad_row_of_a_pack_and_repair_drops_it_alone(self, url: str) -> None:
        for place, kind in enumerate(("pooled", "facts", "thumbnail", "kinds", "commit")):
            own = f"{url}-{kind}"
            writer = fill(open_writer(own, SPACE, capacity=2000, worker=WORKER))
            pack_store(own)
            (path,) = objects_of(writer.storage, f".{kind}")
            body = bytearray(writer.storage.get(path) or b"")
            row = 4 if kind == "kinds" else 1
            # The records of rows 0 and 2 are as long as that of row 4.
            at = len(body) * 5 // 6 if kind == "kinds" else len(body) // 3 if kind == "thumbnail" else 0
            size = 68 if kind == "commit" else len(body) // 4
            start = at or (packs._TABLE_BYTES if kind == "commit" else 0) + size + 3
            body[start + 40 if kind == "thumbnail" else start] ^= 4
            writer.storage.put(path, bytes(body))
            found = verify_store(own)
            assert list(found["faults"]) == [str(row)], (kind, found)
            report = pack_store(own)
            assert report.rows_packed == 0
            assert report.damaged_rows == ((row,) if kind == "commit" else ())
            assert verify_store(own, repair=True)["repaired"] == 1
            kept = [one for one in (0, 1, 2, 4) if one != row]
            assert np.flatnonzero(open_reader(own).committed()).tolist() == kept
            assert verify_store(own)["bad"] == 0
            write_rows(writer, [row])
            assert pack_store(own).damaged_rows == ()
            assert verify_store(own)["bad"] == 0
            assert np.flatnonzero(open_reader(own).committed()).tolist() == [0, 1, 2, 4]
            assert place < len(KINDS)


class TestLocalStore(PackContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


@pytest.mark.s3
class TestS3Store(PackContract):
    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url


def copy_of(storage: Storage) -> Storage:
    made = memory_storage()
    for path in storage.list_paths(""):
        made.put(path, bytes(storage.get(path) or b""))
    return made


def two_spans(space: EmbeddingSpace = POOLED_ONLY) -> Storage:
    """A packed store with rows that came later, one that is replaced, and rows of a second pack."""
    storage = memory_storage()
    writer = writer_on(storage, space, 2 * SPAN, WORKER)
    fill(writer, (0, 1))
    writer.add_volumes(make_refs(FAR + 1))
    pack_on(reader_on(storage))
    writer.add_volumes([make_ref(1, size=7)])
    writer.write_row(1, pooled_of(77, space), {}, facts_of(77), bytes(16), 7, thumbnail_of(77))
    write_rows(writer, [2, FAR])
    return storage


def test_killed_at_any_step_nothing_is_lost_and_a_rerun_ends_as_one_that_was_left_alone() -> None:
    storage = two_spans()
    expected = rows_of(reader_on(storage))
    whole = copy_of(storage)
    pack_on(reader_on(whole))
    changes = 0
    while True:
        cut = copy_of(storage)
        try:
            pack_on(reader_on(CutOffStorage(cut.url, cut.objects, [changes])))
        except StoreError as error:
            assert str(error) == "cut off"
        else:
            break
        after = rows_of(reader_on(cut))
        assert after == expected, changes
        # The next may be one who writes, who reads, or who packs again.
        writer = writer_on(cut, POOLED_ONLY, 2 * SPAN, WORKER)
        assert not {0, 1, 2, FAR} & {line.row for line in writer.missing_rows()}
        pack_on(reader_on(cut))
        assert rows_of(reader_on(cut)) == expected, changes
        assert small_files(cut) == []
        ends = sorted(path.rpartition(".")[2] for path in cut.list_paths("packs"))
        assert ends == sorted(path.rpartition(".")[2] for path in whole.list_paths("packs"))
        changes += 1
    assert changes > 25


def test_a_drop_that_is_cut_off_is_done_or_not_and_a_repeated_one_is_done() -> None:
    storage = two_spans()
    pack_on(reader_on(storage))
    for changes in range(9):
        cut = copy_of(storage)
        writer = writer_on(cut, POOLED_ONLY, 2 * SPAN, WORKER)
        failing = CutOffStorage(cut.url, cut.objects, [changes])
        try:
            replace(writer, storage=packs.packed(failing)).add_volumes([make_ref(2, size=9)])
        except StoreError:
            reader = reader_on(cut)
            whole = reader.committed()[2]
            assert whole == (2 not in [line.row for line in writer.missing_rows()])
            assert not whole or reader.vectors([2])[0].shape
            if not whole:
                assert int(reader.index()["size"][2]) in (9, 1002)
        writer.add_volumes([make_ref(2, size=9)])
        assert 2 in [line.row for line in writer.missing_rows()]
        assert np.flatnonzero(reader_on(cut).committed()).tolist() == [0, 1, FAR]


@pytest.mark.parametrize("step", range(6))
def test_a_row_that_is_dropped_while_another_packs_stays_dropped(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dropper comes between two steps of the packer, and must wait for its end."""
    storage = two_spans()
    ends = ("pooled", "facts", "thumbnail", "commit", "commit", "pooled")
    dropper: list[Thread] = []
    seen: list[str] = []
    monkeypatch.setattr(pack_claim, "DEAD_S", 30.0)

    class Slow(Storage):
        def put(self, path: str, *parts: Any) -> None:
            Storage.put(self, path, *parts)
            if path.startswith("packs/0") and path.endswith(ends[step]) and not dropper:
                other = packs.packed(storage)
                dropper.append(Thread(target=lambda: other.delete(PATHS["commit"].format(1))))
                dropper[0].start()
                dropper[0].join(0.1)
                seen.append("waits" if dropper[0].is_alive() else "went on")

    pack_on(reader_on(Slow(storage.url, storage.objects)))
    dropper[0].join(20)
    assert seen == ["waits"]
    assert not dropper[0].is_alive()
    assert np.flatnonzero(reader_on(storage).committed()).tolist() == [0, 2, FAR]
    pack_on(reader_on(storage))
    assert np.flatnonzero(reader_on(storage).committed()).tolist() == [0, 2, FAR]


def test_two_who_pack_at_once_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_claim, "DEAD_S", 30.0)
    storage = two_spans()
    expected = rows_of(reader_on(storage))
    reports: list[PackReport] = []
    both = [Thread(target=lambda: reports.append(pack_on(reader_on(storage)))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert sorted(report.rows_packed for report in reports) == [0, 3]
    assert rows_of(reader_on(storage)) == expected


def test_who_lost_its_claim_publishes_nothing() -> None:
    storage = two_spans()
    expected = rows_of(reader_on(storage))

    class Taken(Storage):
        def put(self, path: str, *parts: Any) -> None:
            assert not path.endswith(".commit")
            Storage.put(self, path, *parts)
            if path.endswith(".facts"):
                for claim in filter(pack_claim.is_claim, self.list_paths("packs")):
                    self.delete(claim)

    with pytest.raises(StoreError, match="another process packs it now"):
        pack_on(reader_on(Taken(storage.url, storage.objects)))
    assert rows_of(reader_on(storage)) == expected


def test_a_disk_that_keeps_other_bytes_loses_no_single_file() -> None:
    storage = two_spans()
    singles, expected = small_files(storage), rows_of(reader_on(storage))

    class Lying(Storage):
        def put(self, path: str, *parts: Any) -> None:
            body = b"".join(bytes(part) for part in parts)
            flips = path.endswith(".facts")
            Storage.put(self, path, body[:-1] + bytes([body[-1] ^ 1]) if flips else body)

    with pytest.raises(StoreError, match="no single file was deleted"):
        pack_on(reader_on(Lying(storage.url, storage.objects)))
    assert (small_files(storage), rows_of(reader_on(storage))) == (singles, expected)


def test_a_row_written_again_beside_its_pack_is_the_newer_one() -> None:
    """Two processes did the same row, on devices that round differently."""
    storage = memory_storage()
    fill(writer_on(storage, SPACE, 10, WORKER))
    pack_on(reader_on(storage))
    late = writer_on(storage, SPACE, 10, WORKER)
    late.arrays.pooled.write(late.storage, 1, pooled_of(88))
    for _ in range(2):  # killed before its commit: it never was a row
        np.testing.assert_array_equal(reader_on(storage).vectors([1])[0][0], pooled_of(1))
        pack_on(reader_on(storage))
    assert small_files(storage) == []
    late.write_row(1, pooled_of(77), tokens_of(77), facts_of(77), bytes(16), 7, thumbnail_of(77))
    for _ in range(2):
        reader = reader_on(storage)
        np.testing.assert_array_equal(reader.vectors([1])[0][0], pooled_of(77))
        np.testing.assert_array_equal(reader.committed_tokens(1)["last"], tokens_of(77)["last"])
        assert pack_on(reader).damaged_rows == ()


def test_a_reader_at_work_never_misses_a_row_while_others_pack_and_write() -> None:
    storage = two_spans()
    reader, over, faults = reader_on(storage), [], list[Any]()
    expected = told(reader)["pooled"]

    def read() -> None:
        while not over:
            found = set(np.flatnonzero(reader.committed()).tolist())
            if not {0, 1, 2, FAR} <= found or reader.vectors([0, 1, 2, FAR])[0].tobytes() != expected:
                faults.append(found)

    reading = Thread(target=read)
    reading.start()
    writer = writer_on(storage, POOLED_ONLY, 2 * SPAN, WORKER)
    for row in range(10, 30):
        write_rows(writer, [row])
        pack_on(reader_on(storage))
    over.append(True)
    reading.join()
    assert faults == []
    assert reader.committed().sum() == 4 + 20


def test_a_damaged_single_row_leaves_its_span_as_it_is(tmp_path: Path) -> None:
    url = str(tmp_path)
    writer = fill(open_writer(url, SPACE, capacity=10, worker=WORKER))
    (tmp_path / "facts" / "c.2.0").write_bytes(b"cut")
    singles = small_files(writer.storage)
    report = pack_store(url)
    assert (report.damaged_rows, report.rows_packed) == ((2,), 0)
    writer.arrays.pooled.write(writer.storage, 1, pooled_of(88))  # of another process, killed before its commit
    assert pack_store(url).damaged_rows == (1, 2)
    assert small_files(writer.storage) == singles
    assert list(verify_store(url, repair=True)["faults"]) == ["1", "2"]
    assert (pack_store(url).damaged_rows, np.flatnonzero(open_reader(url).committed()).tolist()) == ((), [0, 4])


def test_damage_to_a_pack_itself_is_named(tmp_path: Path) -> None:
    url = str(tmp_path)
    fill(open_writer(url, SPACE, capacity=10, worker=WORKER))
    pack_store(url)
    expected = told(open_reader(url))
    (commit,) = (tmp_path / "packs").glob("*.commit")
    body = bytearray(commit.read_bytes())
    body[100] ^= 1
    commit.write_bytes(body)
    found = verify_store(url)
    assert list(found["damaged_files"]) == [f"packs/{commit.name}"]
    assert (found["bad"], told(open_reader(url))) == (0, expected)
    assert pack_store(url).damaged_rows == ()
    assert verify_store(url)["damaged_files"] == {}

    (commit,) = (tmp_path / "packs").glob("*.commit")
    (pooled,) = (tmp_path / "packs").glob("*.pooled")
    kept = pooled.read_bytes()
    for damaged in (b"", kept[:-1]):
        pooled.write_bytes(damaged)
        assert list(verify_store(url)["faults"]) == (["0", "1", "2", "4"] if not damaged else ["4"])
    pooled.unlink()
    assert list(verify_store(url)["faults"]) == ["0", "1", "2", "4"]
    pooled.write_bytes(kept)
    assert verify_store(url)["bad"] == 0
    pooled.chmod(0)
    pooled.unlink()
    pooled.symlink_to(tmp_path / "packs" / "nowhere")
    assert verify_store(url)["bad"] + verify_store(url)["unreadable"] == 4
    commit.write_bytes(body[: packs._TABLE_BYTES - 1])
    with pytest.raises(StoreError, match=r"neither table of packs/.* has a right checksum; restore it"):
        open_reader(url).committed()


def test_an_older_store_is_packed_and_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parent / "store_schema_2.zip") as packed:
        packed.extractall(tmp_path)
    (root,) = tmp_path.rglob("layout.crc32c")
    url = str(root.parent)
    before = told(open_reader(url))
    assert pack_store(url).rows_packed == len(before["rows"]) > 0
    assert told(open_reader(url)) == before
    found = verify_store(url)
    assert (found["bad"], found["damaged_files"], found["foreign_files"]) == (0, {}, [])
    attributes = json.loads((root.parent / "zarr.json").read_text())["attributes"]
    assert attributes["schema_version"] == 4, "a reader that knows no packs must refuse it"


def test_a_store_that_cannot_be_written_is_refused_and_one_that_was_never_packed_stays_as_it_is(tmp_path: Path) -> None:
    empty = open_writer(str(tmp_path / "empty"), SPACE, capacity=10, worker=WORKER)
    objects = len(empty.storage.list_paths(""))
    assert pack_store(empty.storage.url) == PackReport(0, 0, objects, objects, ())
    assert json.loads((tmp_path / "empty/zarr.json").read_text())["attributes"]["schema_version"] == 3
    with pytest.raises(StoreError, match="there is no store"):
        pack_store(str(tmp_path / "nowhere"))


def test_paths_are_those_of_the_arrays() -> None:
    arrays = arrays_of(SPACE)
    of_arrays = {
        array.name: array.chunk_path(7) for array in (arrays.pooled, arrays.facts, arrays.thumbnail, arrays.commit)
    }
    assert {kind: path.format(7) for kind, path in PATHS.items()} == of_arrays | {"kinds": kind_path(7)}


def test_a_far_server_is_asked_for_few_objects() -> None:
    storage = two_spans()
    write_rows(writer_on(storage, POOLED_ONLY, 2 * SPAN, WORKER), range(10, 200))
    pack_on(reader_on(storage))
    asked: list[str] = []

    class Counting(Storage):
        def get(self, path: str) -> memoryview | None:
            asked.append(path)
            return Storage.get(self, path)

        def read_into(self, path: str, target: np.ndarray) -> Iterator[np.ndarray]:
            asked.append(path)
            return Storage.read_into(self, path, target)

    reader = reader_on(Counting(storage.url, storage.objects))
    rows = np.flatnonzero(reader.committed()).tolist()
    reader.whole_rows(rows[::-1])
    read_kinds(reader.storage, rows)
    of_rows = [path for path in asked if path.partition("/")[0] in (*PATHS, "packs") and not path.endswith("zarr.json")]
    assert len(rows) == 194
    assert len(of_rows) == len(set(of_rows)) == 2 * 4 + 1  # kinds only in the first pack


def test_the_verb(tmp_path: Path, command: Command) -> None:
    url = str(tmp_path / "store")
    writer = fill(open_writer(url, SPACE, capacity=10, worker=WORKER))
    for words in (("--dry-run",), ()):
        done = command("extract-embeddings", "pack", "--store", url, "--json", *words)
        found = json.loads(done.stdout)
        assert (done.code, found["rows_packed"], found["rows"], found["damaged_rows"]) == (0, 4, 4, [])
        assert found["objects_before"] - found["objects_after"] == 13
    (tmp_path / "store/facts/c.2.0").write_bytes(b"cut")
    write_rows(writer, [5])
    (tmp_path / "store/facts/c.5.0").write_bytes(b"cut")
    done = command("extract-embeddings", "pack", "--store", url)
    assert done.code == 1
    assert "row 5 is damaged" in done.stdout
    assert "row 2" not in done.stdout, "what lies beside a pack is no part of the row"
    done = command("extract-embeddings", "pack", "--store", str(tmp_path / "none"))
    assert (done.code, "Traceback" in done.stderr) == (1, False)
