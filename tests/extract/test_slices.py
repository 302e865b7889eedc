"""Encoders of single B-scans: which frames they see, in a run, in parts, and of one file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dicom_files import compress, layered_volume, make_file
from PIL import Image
from pydicom.uid import JPEGLSLossless
from small_bucket import errors, key_of
from test_preprocess import whole

import extract.partial.reader as reader_module
from embeddings_store.command_line import parse_words
from embeddings_store.errors import UsageError
from embeddings_store.reader import open_reader
from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.bucket.source import PartlyFetched
from extract.doctor.options import DoctorOptions
from extract.dry_run import plan_run
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder_options import Preprocessing
from extract.file_options import EncodeOptions
from extract.load import new_loader
from extract.options import ExtractOptions
from extract.pictures import even_frames
from extract.pipeline import extract
from extract.preprocess import preprocess
from extract.preset import PRESETS, Recipe
from extract.single import encode_file
from extract.stages import StageClock

FRAMES = 17
SIZE = (4, 64, 64)


@pytest.fixture
def retfound(reference: Path) -> Path:
    return reference / "encoders" / "retfound_mae" / "checkpoint.pth"


def voxels(number: int, frames: int = FRAMES) -> Any:
    return np.random.default_rng(number).integers(0, 200, (frames, 40, 48), dtype=np.uint8)


def fill(root: Path, *counts: int) -> Path:
    for number, frames in enumerate(counts):
        path = root / key_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_file(voxels(number, frames)))
    return root


def manifest(root: Path, *counts: int) -> None:
    lines = [f"/{key_of(number)}\t{1001 + number}\tL\t{frames}" for number, frames in enumerate(counts)]
    table = root / "retinal_oct" / "manifest.tsv"
    table.write_text("\n".join(["filepath\tparticipant_id\tlaterality\tnumber_of_frames", *lines]) + "\n")


def options(bucket: Path, store: Path, retfound: Path, /, **more: Any) -> ExtractOptions:
    usual = {"tokens": "full", "device": "cpu", "heads": 3, "encoder": ["retfound"], "checkpoint": [retfound]}
    return parse_words(ExtractOptions, **{"bucket": str(bucket), "store": [str(store)], **usual, **more})


def messages(store: Path) -> list[str]:
    return [record.failure.message for record in open_reader(str(store)).errors()]


class TestRun:
    @pytest.mark.parametrize(
        ("words", "chosen"),
        [({}, even_frames(17, 16)), ({"slices": "5"}, even_frames(17, 5)), ({"slices": "centre"}, [8]),
         ({"slices": "all"}, range(17)), ({"image_size": (3, 64, 64)}, even_frames(17, 3))],
        ids=str,
    )  # fmt: skip
    def test_tokens_are_those_of_the_frames(self, tmp_path: Path, retfound: Path, words: Any, chosen: Any) -> None:
        bucket = fill(tmp_path / "b", 17, 17)
        assert extract(options(bucket, tmp_path / "s", retfound, **words))["committed"] == 2
        reader = open_reader(str(tmp_path / "s"))
        index = reader.index()
        row = int(index["row"][index["key"] == key_of(1)].iloc[0])
        frames = voxels(1)[list(chosen)]
        module = load_checkpoint(retfound, family="retfound", heads=3, image_size=(len(frames), 64, 64)).module
        image = preprocess(whole(frames), PRESETS["retfound"], (len(frames), 64, 64))
        expected = module(torch.from_numpy(image)[None])["last"][0].numpy()
        stored = reader.tokens(row, "last")
        assert stored.shape == (len(frames), 4, 4, 48)
        assert np.abs(stored.reshape(expected.shape).astype(np.float32) - expected).max() < 4e-3  # float16

    def test_the_number_is_part_of_the_space(self, tmp_path: Path, retfound: Path) -> None:
        bucket = fill(tmp_path / "b", 17)
        spaces = {
            words: extract(options(bucket, tmp_path / f"s{words}", retfound, slices=words))["space"]
            for words in ("4", "5", "all", "17", "centre", "1")
        }
        assert len(set(spaces.values())) == 5
        assert spaces["centre"] == spaces["1"]

    def test_more_slices_than_frames_is_an_error_row(self, tmp_path: Path, retfound: Path) -> None:
        bucket = fill(tmp_path / "b", 9, 17)
        assert extract(options(bucket, tmp_path / "s", retfound))["committed"] == 1
        ((where, message),) = zip(errors(tmp_path / "s").values(), messages(tmp_path / "s"), strict=True)
        assert where == ("preprocess", "PreprocessError")
        assert "expected at least 16 frames for 16 slices, got 9; frames are never repeated" in message

    def test_all_of_a_bucket_that_no_manifest_describes(self, tmp_path: Path, retfound: Path) -> None:
        bucket = fill(tmp_path / "b", 1, 9, 9, 17)  # the first one is no volume
        assert extract(options(bucket, tmp_path / "s", retfound, slices="all"))["committed"] == 2
        assert open_reader(str(tmp_path / "s")).space.image_size == (9, 64, 64)
        assert sum("expected exactly 9 frames for 9 slices, got 17" in one for one in messages(tmp_path / "s")) == 1

    def test_all_of_a_bucket_with_a_manifest(self, tmp_path: Path, retfound: Path) -> None:
        bucket = fill(tmp_path / "b", 9, 9, 17)
        manifest(bucket, 9, 9, 17)
        for ask in (extract, plan_run):
            with pytest.raises(UsageError, match=r"one number of frames, got 9 \(2 volumes\), 17 \(1 volumes\)"):
                ask(options(bucket, tmp_path / "s", retfound, slices="all"))
        assert not (tmp_path / "s").exists()
        summary = extract(options(bucket, tmp_path / "s", retfound, slices="all", where="frames=9"))
        assert (summary["committed"], summary["selected"]) == (2, 2)

    def test_all_of_a_bucket_without_one_volume_that_can_be_read(self, tmp_path: Path, retfound: Path) -> None:
        with pytest.raises(UsageError, match="none of the first 8 volumes can be read"):
            extract(options(fill(tmp_path / "b", 1, 1), tmp_path / "s", retfound, slices="all"))

    def test_beside_an_encoder_of_volumes(self, tmp_path: Path, retfound: Path, reference: Path) -> None:
        bucket, volumes = fill(tmp_path / "b", 17), reference / "vjepa3d_nested" / "trainer_full.pt"
        both = options(
            bucket, tmp_path / "s", retfound, slices="4", store=[str(tmp_path / "s"), str(tmp_path / "v")],
            checkpoint=[retfound, volumes], encoder=["retfound", "vjepa3d"],
        )  # fmt: skip
        assert [store["committed"] for store in extract(both)["stores"]] == [1, 1]
        sizes = [open_reader(str(tmp_path / name)).space.image_size for name in ("s", "v")]
        assert sizes == [(4, 64, 64), (16, 64, 64)]
        alone = options(bucket, tmp_path / "v", volumes, slices="4", encoder=["vjepa3d"])
        with pytest.raises(UsageError, match="'pretrain' is of whole volumes"):
            extract(alone)

    def test_single_pictures_are_one_slice_each(self, tmp_path: Path, retfound: Path, reference: Path) -> None:
        bucket, volumes = reference / "datasets" / "octdl" / "data", reference / "vjepa3d_nested" / "trainer_full.pt"
        assert plan_run(options(bucket, tmp_path / "s", retfound))["selected"] > 10
        summary = extract(options(bucket, tmp_path / "s", retfound))
        assert (summary["committed"], summary["errors"]) == (summary["selected"], {})
        space = open_reader(str(tmp_path / "s")).space
        assert (space.image_size[0], space.preset["slices"]) == (1, 1)
        again = extract(options(bucket, tmp_path / "s", retfound, slices="1"))
        assert again["already_done"] == summary["selected"]
        for words, named in (
            ({"slices": "16"}, "takes 16 of a volume: leave --slices"),
            ({"image_size": (4, 64, 64)}, "takes 4 of a volume: leave --slices"),
            ({"checkpoint": [volumes], "encoder": ["vjepa3d"]}, "trainer_full.pt takes 16 of a volume: take an enc"),
        ):
            for ask in (extract, plan_run):
                with pytest.raises(UsageError, match=named):
                    ask(options(bucket, tmp_path / "other", retfound, **words))
        assert not (tmp_path / "other").exists()

    def test_all_of_folders_of_pictures(self, tmp_path: Path, retfound: Path) -> None:
        for number in range(5):
            path = tmp_path / "b" / "P1" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(voxels(number, 1)[0]).save(path)
        words = {"pattern": r"(?P<participant>P\d)", "slices": "all"}
        assert extract(options(tmp_path / "b", tmp_path / "s", retfound, **words))["committed"] == 1
        assert open_reader(str(tmp_path / "s")).space.image_size == (5, 64, 64)

    def test_a_dry_run_counts_the_slices(self, tmp_path: Path, retfound: Path) -> None:
        bucket = fill(tmp_path / "b", 17)
        sizes = [
            plan_run(options(bucket, tmp_path / "s", retfound, slices=words))["row_bytes"]
            for words in ("1", "4", "all")
        ]
        assert sizes[0] < sizes[1] < sizes[2]


class TestParts:
    @pytest.fixture(autouse=True)
    def _small_scale(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader_module, "HEAD_BYTES", 1024)
        monkeypatch.setattr(reader_module, "GAP_BYTES", 0)

    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("name", ["retfound", "vjepa2"])
    def test_only_the_frames_in_use_come(self, tmp_path: Path, compressed: bool, name: str) -> None:
        frames, path = layered_volume(40), tmp_path / key_of(0)
        path.parent.mkdir(parents=True)
        path.write_bytes(compress(frames, JPEGLSLossless) if compressed else make_file(frames))
        recipe = Recipe(Preprocessing(preset=name).prepared(None, SIZE), SIZE)
        (ref,) = list_volumes(FolderSource(tmp_path)).refs
        source = FolderSource(tmp_path)
        loader = new_loader(source, recipe, StageClock(), partial_reads="on")
        fetched = loader.fetch(ref, [recipe])
        assert isinstance(fetched, PartlyFetched)
        assert list(fetched.frames) == even_frames(40, 4).tolist()
        parts = loader.decode(ref, fetched, [recipe])
        complete = new_loader(source, recipe, StageClock())
        everything = complete.decode(ref, complete.fetch(ref, [recipe]), [recipe])
        np.testing.assert_array_equal(parts.images[recipe], everything.images[recipe])
        assert parts.facts[recipe].intensity == everything.facts[recipe].intensity

    def test_all_is_read_whole(self, tmp_path: Path) -> None:
        path = tmp_path / key_of(0)
        path.parent.mkdir(parents=True)
        path.write_bytes(make_file(layered_volume(40)))
        recipe = Recipe(Preprocessing(preset="retfound", slices="all").prepared(None, (40, 16, 16)), (40, 16, 16))
        (ref,) = list_volumes(FolderSource(tmp_path)).refs
        loader = new_loader(FolderSource(tmp_path), recipe, StageClock(), partial_reads="on")
        assert not isinstance(loader.fetch(ref, [recipe]), PartlyFetched)

    def test_too_few_frames_end_in_the_same_error_either_way(self, tmp_path: Path, retfound: Path) -> None:
        bucket = fill(tmp_path / "b", 9)
        for how in ("on", "off"):
            extract(options(bucket, tmp_path / how, retfound, partial_reads=how))
        assert errors(tmp_path / "on") == errors(tmp_path / "off")


class TestOneFile:
    @pytest.mark.parametrize(("slices", "tokens"), [("all", 17 * 16), (4, 64), ("centre", 16), (None, 256)])
    def test_encode(self, tmp_path: Path, retfound: Path, slices: Any, tokens: int) -> None:
        (tmp_path / "scan.dcm").write_bytes(make_file(voxels(0)))
        out = tmp_path / "x.npy"
        encode_file(
            EncodeOptions(
                file=tmp_path / "scan.dcm", out=out, encoder="retfound", checkpoint=retfound, heads=3, slices=slices,
                device="cpu",
            )
        )  # fmt: skip
        assert np.load(out).shape == (1, tokens, 48)

    def test_the_doctor_needs_a_number(self) -> None:
        with pytest.raises(UsageError, match="--slices all: the doctor"):
            DoctorOptions(slices="all")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "some", "9" * 5000, "16,224,224", "٣x"])
def test_what_is_no_number_of_slices(text: str) -> None:
    with pytest.raises(UsageError, match="--slices: expected centre, all or a number of frames from 1"):
        parse_words(Preprocessing, slices=text)


@pytest.mark.parametrize("number", [0, -3, True])
def test_what_is_no_number_in_python(number: Any) -> None:
    with pytest.raises(UsageError, match="--slices: expected centre, all or a number"):
        Preprocessing(slices=number).prepared("retfound")
