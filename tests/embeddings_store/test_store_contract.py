"""What a store promises, on every place it may lie: one class, run on a folder and on a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from store_makers import FAILURE, SPACE, WORKER, facts_of, make_ref, make_refs, pooled_of, tokens_of, write_rows

from embeddings_store.errors import SpaceMismatchError, StoreError
from embeddings_store.reader import open_reader
from embeddings_store.row_checks import RowError
from embeddings_store.snapshot import read_features_source
from embeddings_store.space import EmbeddingSpace
from embeddings_store.storage import open_storage
from embeddings_store.token_codec import CODECS
from embeddings_store.verify import verify_store
from embeddings_store.writer import StoreWriter, clear_errors, open_writer


def open_for(url: str, space: EmbeddingSpace = SPACE) -> StoreWriter:
    return open_writer(url, space, capacity=100, worker=WORKER, clock=lambda: 42)


def missing(writer: StoreWriter) -> list[int]:
    return [line.row for line in writer.missing_rows()]


class StoreContract:
    """The promises; a subclass gives ``url``, a place where nothing lies yet."""

    def test_a_row_comes_back_as_it_was_written(self, url: str) -> None:
        writer = open_for(url)
        writer.add_volumes(make_refs(3))
        write_rows(writer, [0, 2])
        reader = open_reader(url)

        np.testing.assert_array_equal(reader.pooled([2, 0]), np.stack([pooled_of(2), pooled_of(0)]))
        np.testing.assert_array_equal(reader.tokens(2, "last"), tokens_of(2)["last"])
        np.testing.assert_array_equal(reader.token_batch([0, 2], "2")[1], tokens_of(2)["2"])
        facts = reader.facts([2])
        assert facts.loc[2, ["frames", "spacing_axial_mm", "eye", "notes"]].tolist() == [10, 0.004, 2, 1]
        assert reader.committed().tolist() == [True, False, True]

    def test_int8_tokens_come_back_as_the_codec_made_them(self, url: str) -> None:
        writer = open_for(url, replace(SPACE, token_dtype="int8"))
        writer.add_volumes(make_refs(1))
        write_rows(writer, [0])
        codec, tokens = CODECS["int8"], tokens_of(0)["last"]
        np.testing.assert_array_equal(open_reader(url).tokens(0, "last"), codec.decode(codec.encode(tokens)))
        assert verify_store(url)["bad"] == 0

    def test_eight_writers_on_the_same_rows_leave_what_one_leaves(self, url: str) -> None:
        def fill(_number: int) -> None:
            writer = open_for(url)
            writer.add_volumes(make_refs(3))
            write_rows(writer, range(3))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(fill, range(8)))
        found = verify_store(url)
        assert (found["checked"], found["bad"], found["orphans"], found["damaged_files"]) == (3, 0, 0, {})
        assert open_reader(url).index()["key"].tolist() == [ref.key for ref in make_refs(3)]
        for row in range(3):
            np.testing.assert_array_equal(open_reader(url).vectors([row])[0][0], pooled_of(row))
            np.testing.assert_array_equal(open_reader(url).committed_tokens(row)["2"], tokens_of(row)["2"])

    def test_zarr_itself_reads_what_was_written(self, url: str) -> None:
        writer = open_for(url)
        writer.add_volumes(make_refs(2))
        write_rows(writer, [1])
        group = zarr.open_group(writer.storage.zarr_store(), mode="r")

        np.testing.assert_array_equal(group["pooled"][1], pooled_of(1))
        np.testing.assert_array_equal(group["tokens/last"][1], tokens_of(1)["last"])
        assert group["commit"][0:2, 0].tolist() == [0, 3]
        assert EmbeddingSpace.from_dict(group.attrs["space"]) == SPACE

    def test_a_commit_says_source_time_and_worker(self, url: str) -> None:
        writer = open_for(url)
        writer.add_volumes(make_refs(1))
        write_rows(writer, [0])
        commit = open_reader(url).commits().loc[0]
        assert (commit["status"], commit["source_size_bytes"], commit["time_ns"]) == (3, 1000, 42)
        assert int(commit["source_md5_low"]).to_bytes(8, "big", signed=True) == bytes(range(8, 16))
        assert writer.storage.get(f"workers/{commit['worker']}.json") is not None

    def test_adding_volumes_twice_changes_nothing(self, url: str) -> None:
        first = open_for(url).add_volumes(make_refs(3))
        second = open_for(url).add_volumes(make_refs(5)[::-1])
        third = open_for(url).add_volumes(make_refs(5))

        assert [(added.new, added.known) for added in (first, second, third)] == [(3, 0), (2, 3), (0, 5)]
        index = open_reader(url).index()
        assert index["key"].tolist() == [make_ref(number).key for number in (0, 1, 2, 4, 3)]
        assert index["site"].tolist()[:3] == ["UW", "UCSD", "UAB"]

    def test_resuming_asks_the_commits_alone(self, url: str) -> None:
        writer = open_for(url)
        writer.add_volumes(make_refs(4))
        write_rows(writer, [1])
        writer.write_error(3, FAILURE)
        writer.arrays.pooled.write(writer.storage, 0, pooled_of(0))  # killed before the commit

        again = open_for(url)
        assert missing(again) == [0, 2]
        assert [line.row for line in again.missing_rows([make_ref(2).key, make_ref(1).key, "elsewhere"])] == [2]

    def test_doing_a_row_again_is_harmless(self, url: str) -> None:
        for _ in range(2):
            writer = open_for(url)
            writer.add_volumes(make_refs(1))
            write_rows(writer, [0])
        assert verify_store(url)["bad"] == 0
        assert open_reader(url).committed().tolist() == [True]

    def test_errors_are_kept_lifted_and_replaced_by_success(self, url: str) -> None:
        writer = open_for(url)
        writer.add_volumes(make_refs(3))
        for row in (0, 1):
            writer.write_error(row, FAILURE)
        (record, _) = open_reader(url).errors()
        assert (record.row, record.failure, record.time_ns, record.versions) == (0, FAILURE, 42, {"octprobe": "0.1.0"})

        write_rows(open_for(url), [0])
        assert [record.row for record in open_reader(url).errors()] == [1]
        assert clear_errors(url) == ({FAILURE.error: 1}, {})
        assert missing(open_for(url)) == [1, 2]

    def test_an_error_never_hides_a_committed_row(self, url: str) -> None:
        writer = open_for(url)
        writer.add_volumes(make_refs(1))
        write_rows(writer, [0])
        writer.write_error(0, FAILURE)
        assert open_reader(url).errors() == []

    def test_a_replaced_object_is_done_again_in_its_old_row(self, url: str) -> None:
        writer = open_for(url)
        writer.add_volumes(make_refs(2))
        write_rows(writer, [0, 1])
        added = writer.add_volumes([make_ref(1, size=7, etag="new")])

        assert [(line.row, line.ref.size) for line in added.replaced] == [(1, 7)]
        assert missing(writer) == [1]
        assert open_reader(url).index()["etag"].tolist() == ["", "new"]
        # A manifest that knows neither size nor etag is no news.
        assert writer.add_volumes([make_ref(1, size=-1)]).replaced == ()
        assert open_reader(url).index()["size"].tolist() == [1000, 7]

    def test_another_space_is_refused_field_by_field(self, url: str) -> None:
        open_for(url)
        other = replace(SPACE, precision="bf16", preset={"name": "finetune"})
        with pytest.raises(SpaceMismatchError) as caught:
            open_for(url, other)
        message = str(caught.value)
        assert "precision: fp32 here, bf16 there" in message
        assert "preset:" in message
        assert "width" not in message

    def test_the_same_space_is_accepted_after_a_round_trip(self, url: str) -> None:
        open_for(url)
        assert open_for(url).space == SPACE == open_reader(url).space

    def test_a_creation_that_was_cut_off_is_finished(self, url: str) -> None:
        storage = open_for(url).storage
        storage.delete("zarr.json")
        with pytest.raises(StoreError, match="there is no store"):
            open_reader(url)
        for path in storage.list_paths("workers"):
            storage.delete(path)
        assert missing(open_for(url)) == []

    def test_a_foreign_place_is_refused_and_left_alone(self, url: str) -> None:
        storage = open_storage(url, create=True)
        storage.put("thesis/chapter1.txt", b"words")
        with pytest.raises(StoreError, match="not empty and no store"):
            open_for(url)
        assert storage.list_paths("") == ["thesis/chapter1.txt"]

    def test_wrong_numbers_are_a_volume_error_and_write_nothing(self, url: str) -> None:
        writer = open_for(url)
        before = sorted(writer.storage.list_paths(""))
        infinite = tokens_of(0) | {"last": np.full_like(tokens_of(0)["last"], np.inf)}
        nan = np.full_like(pooled_of(0), np.nan)
        cases = [
            (nan, tokens_of(0), "not finite"),
            (pooled_of(0), infinite, "tokens/last holds values that are not finite"),
            (pooled_of(0)[:1], tokens_of(0), "expected pooled as"),
            (pooled_of(0), {"last": tokens_of(0)["last"]}, "expected tokens of the layers"),
        ]
        for pooled, tokens, message in cases:
            with pytest.raises(RowError, match=message) as caught:
                writer.write_row(0, pooled, tokens, facts_of(0), bytes(16), 1)
            assert caught.value.stage == "write"
        assert sorted(writer.storage.list_paths("")) == before

    def test_a_full_store_says_so_and_adds_nothing(self, url: str) -> None:
        writer = open_for(url)
        with pytest.raises(StoreError, match="made for 100 volumes, 101 were asked"):
            writer.add_volumes(make_refs(101))
        assert len(open_reader(url).index()) == 0

    def test_a_reader_sees_the_store_grow(self, url: str) -> None:
        writer = open_for(url)
        reader = open_reader(url)
        assert reader.committed().tolist() == []
        writer.add_volumes(make_refs(2))
        write_rows(writer, [1])
        assert reader.committed().tolist() == [False, True]
        with pytest.raises(StoreError, match=r"pooled row 0 .* never written"):
            reader.pooled([0, 1])

    def test_training_reads_a_snapshot(self, url: str) -> None:
        writer = open_for(url)
        writer.add_volumes(make_refs(3))
        write_rows(writer, [0, 2])
        made = read_features_source(url)
        again = read_features_source(url)
        assert (made.origin, again.origin, again.number) == ("new snapshot", "snapshot", 1)
        np.testing.assert_array_equal(again.pooled, np.stack([pooled_of(0), pooled_of(2)]))


class TestLocalStore(StoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "a new" / "store")


@pytest.mark.s3
class TestS3Store(StoreContract):
    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url

    def test_a_wrong_secret_is_one_message_without_it(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
        with pytest.raises(StoreError, match="SignatureDoesNotMatch") as caught:
            open_for(url)
        assert "not-the-secret" not in str(caught.value)

    def test_a_missing_bucket_is_one_message(self, url: str) -> None:
        with pytest.raises(StoreError, match="s3://nowhere/x"):
            open_for("s3://nowhere/x")
