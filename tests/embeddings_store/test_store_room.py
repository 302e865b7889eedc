"""Room: what rows take is computed before the run, agrees with the disk, and a disk that is too small is refused."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_makers import FAILURE, POOLED_ONLY, SPACE, WORKER, make_ref, make_refs, write_rows

from embeddings_store import room
from embeddings_store.errors import StoreError
from embeddings_store.leftovers import ABANDONED_S, abandoned_files
from embeddings_store.room import account, disk_bytes, require_room, row_bytes, row_files
from embeddings_store.snapshot import read_snapshot, write_snapshot
from embeddings_store.storage import open_storage
from embeddings_store.verify import verify_store
from embeddings_store.writer import open_writer

KEYS = [ref.key for ref in make_refs(8)]


def chunk_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("c.*") if "snapshots" not in path.parts]


def give_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=free))


def test_bytes_of_a_row_are_those_of_its_files(tmp_path: Path) -> None:
    writer = open_writer(str(tmp_path), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(1))
    write_rows(writer, [0])
    sizes = row_bytes(SPACE)
    snapshot = sizes.pop("snapshot")
    assert sum(sizes.values()) == sum(path.stat().st_size for path in chunk_files(tmp_path))
    assert snapshot > sizes["pooled"]


@given(rows=st.integers(0, 10**6), block=st.sampled_from([512, 4096, 65536]))
def test_a_projection_grows_by_whole_blocks(rows: int, block: int) -> None:
    one = disk_bytes(SPACE, 1, block)
    assert disk_bytes(SPACE, rows, block) == rows * one
    assert one >= sum(row_bytes(SPACE).values())
    assert (one - row_bytes(SPACE)["snapshot"]) % block == 0


def test_the_account_projects_two_studies() -> None:
    found = account(POOLED_ONLY)
    assert found["row_bytes_in_all"] == sum(found["row_bytes"].values())
    assert found["projected_bytes"]["250000"] == 10 * found["projected_bytes"]["25000"]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = disk_bytes(SPACE, len(KEYS), os.statvfs(tmp_path).f_frsize)
    url = str(tmp_path / "not" / "there")
    give_free(monkeypatch, needed - 1)
    with pytest.raises(StoreError, match=r"too small: 8 rows need .* are free.*--limit 7"):
        require_room(url, SPACE, KEYS)
    give_free(monkeypatch, needed)
    require_room(url, SPACE, KEYS)
    assert list(tmp_path.iterdir()) == []


def give_inodes(monkeypatch: pytest.MonkeyPatch, free: int, total: int = 10**6) -> None:
    give_free(monkeypatch, 10**12)
    disk = SimpleNamespace(f_frsize=4096, f_files=total, f_favail=free)
    monkeypatch.setattr(os, "statvfs", lambda _folder: disk)


def test_a_row_is_as_many_inodes_as_files(tmp_path: Path) -> None:
    writer = open_writer(str(tmp_path), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(2))
    write_rows(writer, [0, 1])
    assert len(chunk_files(tmp_path)) == 2 * row_files(SPACE)


def test_a_disk_with_too_few_inodes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = len(KEYS) * row_files(SPACE)
    give_inodes(monkeypatch, needed - 1)
    with pytest.raises(StoreError, match=rf"too few inodes: 8 rows are {needed} files, {needed - 1} more .*--limit 7"):
        require_room(str(tmp_path), SPACE, KEYS)
    give_inodes(monkeypatch, needed)
    require_room(str(tmp_path), SPACE, KEYS)
    give_inodes(monkeypatch, 0, total=0)
    require_room(str(tmp_path), SPACE, KEYS)


def test_rows_that_are_done_need_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(str(tmp_path), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(4))
    write_rows(writer, [0, 2])
    writer.write_error(1, FAILURE)
    give_free(monkeypatch, 0)
    require_room(str(tmp_path), SPACE, [make_ref(number).key for number in (0, 1, 2)])
    with pytest.raises(StoreError, match="too small: 2 rows need"):
        require_room(str(tmp_path), SPACE, [make_ref(number).key for number in (0, 1, 2, 3, 7)])


def test_a_place_behind_s3_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    give_free(monkeypatch, 0)
    require_room("s3://bucket/x", SPACE, KEYS)


def test_the_block_size_of_the_disk_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_free(monkeypatch, disk_bytes(SPACE, 8, 4096))
    monkeypatch.setattr(room.os, "statvfs", lambda _folder: SimpleNamespace(f_frsize=65536))
    with pytest.raises(StoreError, match="too small"):
        require_room(str(tmp_path), SPACE, KEYS)


def leave_aside(folder: Path, name: str, age_s: float) -> Path:
    path = folder / name
    path.write_bytes(b"half a row")
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path


def test_files_left_aside_are_hidden_told_and_deleted_when_they_are_old(tmp_path: Path) -> None:
    writer = open_writer(str(tmp_path), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(2))
    write_rows(writer, [0])
    old = leave_aside(tmp_path / "pooled", "c.1.0.0.0#1", ABANDONED_S + 60)
    fresh = leave_aside(tmp_path / "commit", "c.1.0#1", 0)

    assert [line.row for line in writer.missing_rows()] == [1]
    looked = verify_store(str(tmp_path), repair=False)
    assert (looked["leftovers"], looked["orphans"]) == ({"pooled/c.1.0.0.0#1": 10}, 0)
    assert old.exists()
    verify_store(str(tmp_path), repair=True)
    assert (old.exists(), fresh.exists()) == (False, True)
    write_rows(writer, [1])
    assert verify_store(str(tmp_path))["bad"] == 0


def test_what_a_killed_snapshot_left_goes_once_it_is_old(tmp_path: Path) -> None:
    writer = open_writer(str(tmp_path), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(2))
    write_rows(writer, [0, 1])
    number = write_snapshot(str(tmp_path))
    folder = tmp_path / "snapshots"
    claims = [folder / f"{one}.{one:032x}.claim" for one in (number, number + 1, number + 2)]
    (folder / f"{number + 1}").mkdir()
    for path in (*claims, folder / f"{number + 1}" / "zarr.part", folder / f"{number + 2}.crc32c"):
        path.write_bytes(b"")
        leave_aside(path.parent, path.name, ABANDONED_S + 60)
    fresh = leave_aside(folder, claims[2].name, 0)

    looked = verify_store(str(tmp_path), repair=True)
    assert sorted(looked["leftovers"]) == sorted(
        path.relative_to(tmp_path).as_posix() for path in (claims[1], folder / f"{number + 1}" / "zarr.part")
    )
    later = abandoned_files(open_storage(str(tmp_path), create=False), clock=lambda: 4e9)
    assert next(one.path for one in later) == claims[0].relative_to(tmp_path).as_posix(), (
        "it is whole but for its claim"
    )
    assert fresh.exists() and (folder / f"{number + 2}.crc32c").exists()
    assert write_snapshot(str(tmp_path)) == number + 3
    assert verify_store(str(tmp_path))["bad"] == 0 and len(read_snapshot(str(tmp_path), number).pooled) == 2


def test_a_snapshot_that_lost_its_document_is_damaged_and_not_left(tmp_path: Path) -> None:
    writer = open_writer(str(tmp_path), SPACE, worker=WORKER)
    writer.add_volumes(make_refs(1))
    write_rows(writer, [0])
    (tmp_path / "snapshots" / f"{write_snapshot(str(tmp_path))}" / "zarr.json").unlink()
    assert abandoned_files(open_storage(str(tmp_path), create=False), clock=lambda: 4e9) == []


def test_a_clock_that_goes_backwards_deletes_nothing(tmp_path: Path) -> None:
    leave_aside(tmp_path, "a#1", ABANDONED_S + 60)
    storage = open_storage(str(tmp_path), create=False)
    assert len(abandoned_files(storage)) == 1
    assert abandoned_files(storage, clock=lambda: 0.0) == []
