"""A run that reads in parts makes the rows of one that reads whole, and says what it did not check."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from dicom_files import compress, layered_volume, make_file
from fault_proxy import FaultPlan, fault_proxy
from pydicom.uid import JPEGLSLossless
from rclone_server import rclone_s3

import extract.partial.reader as reader_module
from embeddings_store.diff import diff_stores
from embeddings_store.errors import UsageError
from embeddings_store.index import IndexRow
from embeddings_store.reader import open_reader
from embeddings_store.schema import Note, VolumeFailure
from embeddings_store.verify import verify_store
from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.bucket.s3 import S3Source
from extract.bucket.source import Fetched, FetchedRange, PartlyFetched, Source, Wanted
from extract.failures import attempt
from extract.load import FailedVolume, LoadedVolume, new_loader
from extract.partial.reader import VolumeReader
from extract.preset import PRESETS, Recipe
from extract.stages import StageClock

KEY = "retinal_oct/structural_oct/topcon_triton/1001/1001_triton_macula_6x6_oct_l_1.2.3.dcm"
SIZE = (4, 16, 16)
HEAD_BYTES = 1024


@pytest.fixture(autouse=True)
def _small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of kilobytes stand for those of megabytes."""
    monkeypatch.setattr(reader_module, "HEAD_BYTES", HEAD_BYTES)
    monkeypatch.setattr(reader_module, "GAP_BYTES", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "eye" / KEY).parent.mkdir(parents=True)
    return tmp_path / "eye"


def line_of(source: Source) -> IndexRow:
    (ref,) = list_volumes(source).refs
    return IndexRow(0, ref)


def load(source: Source, mode: Any, size: Any = SIZE) -> LoadedVolume | FailedVolume:
    return new_loader(source, Recipe(PRESETS["pretrain"], size), StageClock(), partial_reads=mode)(line_of(source))


class TestOneVolume:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_the_input_is_equal_bit_by_bit_and_so_is_the_row_but_for_the_md5(
        self, root: Path, compressed: bool
    ) -> None:
        voxels = layered_volume(40)
        (root / KEY).write_bytes(compress(voxels, JPEGLSLossless) if compressed else make_file(voxels))
        whole, source = load(FolderSource(root), "off"), FolderSource(root)
        parts = load(source, "on")
        assert isinstance(whole, LoadedVolume)
        assert isinstance(parts, LoadedVolume)
        assert source.counts.partial_volumes == 1
        assert whole.image.tobytes() == parts.image.tobytes()
        assert parts.facts == replace(whole.facts, notes=whole.facts.notes | Note.MD5_UNCHECKED)
        assert (parts.source_md5, parts.source_size) == (bytes(16), whole.source_size)
        assert whole.source_md5 != bytes(16)

    def test_a_frame_that_was_damaged_on_the_way_is_fetched_again(self, root: Path) -> None:
        class Noisy(FolderSource):
            def fetch_range(self, wanted: Wanted, start: int, stop: int) -> FetchedRange:
                found = super().fetch_range(wanted, start, stop)
                return replace(found, data=found.data[:8] + bytes(20) + found.data[28:]) if start else found

        (root / KEY).write_bytes(compress(layered_volume(40), JPEGLSLossless))
        noisy_source = Noisy(root)
        whole, noisy = load(FolderSource(root), "off"), load(noisy_source, "on")
        assert isinstance(whole, LoadedVolume)
        assert isinstance(noisy, LoadedVolume)
        assert noisy_source.counts.partial_volumes == 1
        assert whole.image.tobytes() == noisy.image.tobytes()
        assert noisy.facts == whole.facts, "the whole object has an md5"

    def test_a_preset_that_looks_at_every_frame_goes_with_auto_but_not_with_on(self, root: Path) -> None:
        source = FolderSource(root)
        with pytest.raises(UsageError, match="--partial-reads on: the preset 'finetune_v0' looks at every frame"):
            new_loader(source, Recipe(PRESETS["finetune_v0"], SIZE), StageClock(), partial_reads="on")
        new_loader(source, Recipe(PRESETS["finetune_v0"], SIZE), StageClock(), partial_reads="auto")

    def test_frames_that_were_not_fetched_are_never_decoded(self, root: Path) -> None:
        (root / KEY).write_bytes(make_file(layered_volume(40)))
        source = FolderSource(root)
        one, other = Recipe(PRESETS["pretrain"], SIZE), Recipe(PRESETS["pretrain"], (5, 16, 16))
        loader, line = new_loader(source, one, StageClock(), partial_reads="on"), line_of(source)
        fetched = loader.fetch(line.ref, [one])
        assert isinstance(fetched, PartlyFetched)
        failed = attempt("decode", lambda: loader.decode(line.ref, fetched, [one, other]))
        assert isinstance(failed, VolumeFailure)
        both = loader.fetch(line.ref, [one, other])
        assert set(loader.decode(line.ref, both, [one, other]).images) == {one, other}


class FakeTime:
    """Seconds that pass by the bytes and the requests of a slow line."""

    def __init__(self, source: FolderSource) -> None:
        self.source, self.request_s = source, 1.0

    def __call__(self) -> float:
        return self.source.counts.get_requests * self.request_s + self.source.counts.bytes


@pytest.mark.parametrize(("request_s", "last"), [(1.0, PartlyFetched), (1e6, Fetched)])
def test_auto_tries_both_and_keeps_the_faster(
    root: Path, capsys: pytest.CaptureFixture[str], request_s: float, last: type
) -> None:
    class Far(FolderSource):
        far = True

    (root / KEY).write_bytes(make_file(layered_volume(40)))
    source = Far(root)
    time = FakeTime(source)
    time.request_s = request_s
    reader = VolumeReader(source, "auto", has_room=lambda: True, clock=time)
    ref, frames = line_of(source).ref, lambda count: np.arange(0, count, 5)
    kinds = [type(reader.fetch(ref, frames)) for _ in range(30)]
    assert kinds[0] is Fetched
    assert PartlyFetched in kinds
    assert kinds[-1] is last
    assert capsys.readouterr().err.count("partial reads: ") == 1


@pytest.fixture
def server(tmp_path: Path, root: Path, s3_credentials: Callable[[str, str], None]) -> Iterator[str]:
    """A real S3 server with a bucket "eye" of one volume."""
    (root / KEY).write_bytes(make_file(layered_volume(40)))
    with rclone_s3(tmp_path) as (endpoint, access_key, secret_key):
        s3_credentials(access_key, secret_key)
        yield endpoint


@pytest.mark.s3
def test_a_real_server_under_faults_gives_the_same_input(
    root: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("extract.bucket.body.PATIENCE_S", 0.2)
    monkeypatch.setattr("fault_proxy.FAULTS", ("cut", "reset", "500", "length"))
    whole = load(FolderSource(root), "off")
    assert isinstance(whole, LoadedVolume)
    plan = FaultPlan(seed=1, rate=0.4)
    with fault_proxy(server, plan) as endpoint:
        source = S3Source("eye", "", endpoint)
        for number in range(1, 7):
            parts = load(source, "on")
            assert isinstance(parts, LoadedVolume)
            assert whole.image.tobytes() == parts.image.tobytes()
            assert source.counts.partial_volumes == number
    assert source.counts.retries >= 6
    assert set(plan.injected) - {"none"} == {"cut", "reset", "500", "length"}


RUN = ("--encoder", "random:tiny", "--image-size", "4,96,96", "--tokens", "none", "--json")


class TestWholeRuns:
    @pytest.fixture
    def bucket(self, tmp_path: Path, command: Command) -> Path:
        done = command(
            *("oct-phantom", "--out", tmp_path / "phantom", "--participants", 3, "--scale", "0.06", "--workers", 1),
            *("--protocols", "triton_macula_12x12,cirrus_mac", "--break", "all"),
        )
        assert done.code == 0, done.stderr
        return tmp_path / "phantom"

    def test_every_broken_kind_ends_as_when_read_whole(self, tmp_path: Path, bucket: Path, command: Command) -> None:
        run = ("extract-embeddings", "--bucket", bucket, *RUN, "--partial-reads")
        whole = command(*run, "off", "--store", tmp_path / "whole")
        parts = command(*run, "on", "--store", tmp_path / "parts")
        assert whole.code == parts.code == 3, parts.stderr
        assert whole.json["errors"] == parts.json["errors"]
        assert whole.json["partial_reads"] == {"volumes": 0, "bytes_saved": 0, "extra_requests": 0}
        saved = parts.json["partial_reads"]
        assert saved["volumes"] > 0  # threads decide which come after TRIES of their kind in a row in vain
        assert parts.json["bytes"] == whole.json["bytes"] - saved["bytes_saved"]
        assert parts.json["get_requests"] == whole.json["get_requests"] + saved["extra_requests"]
        assert "volumes in parts" in parts.stderr

        found = diff_stores(str(tmp_path / "whole"), str(tmp_path / "parts"))
        assert (found["different"], found["max_abs"], found["only_a"], found["only_b"]) == (0, 0.0, 0, 0)
        one, other = (facts_of(tmp_path / name) for name in ("whole", "parts"))
        unchecked = (other["notes"].astype(int) & Note.MD5_UNCHECKED.value) > 0
        assert unchecked.sum() == saved["volumes"]
        assert one.drop(columns="notes").equals(other.drop(columns="notes"))
        assert (one["notes"] == other["notes"] - Note.MD5_UNCHECKED.value * unchecked).all()
        assert verify_store(str(tmp_path / "parts"))["bad"] == 0

    def test_a_cache_of_whole_objects_goes_with_auto_but_not_with_on(self, tmp_path: Path, command: Command) -> None:
        (tmp_path / "empty").mkdir()
        run = ("extract-embeddings", "--bucket", tmp_path / "empty", "--store", tmp_path / "s", *RUN)
        refused = command(*run, "--cache-dir", tmp_path / "cache", "--partial-reads", "on")
        assert refused.code == 2
        assert "--partial-reads on: --cache-dir keeps whole objects only" in refused.stderr
        assert command(*run, "--partial-reads", "sometimes").code == 2


def facts_of(store: Path) -> Any:
    reader = open_reader(str(store))
    index = reader.index()[reader.committed()]
    return reader.facts(index["row"].tolist()).set_index(index["key"]).sort_index()
