"""The verb as a whole, on a phantom bucket: what it writes, what it never touches, what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from finetune_study import IMAGE_SIZE, PLAIN, SHORT, copy_of, make_bucket, options, run, scans, table
from safetensors import safe_open
from safetensors.torch import load_file

from classify.errors import CohortError, LeakError
from classify.features.standardise import Standardiser
from classify.run.folder import load_run
from classify.run.predictions import pick_predictions
from embeddings_store.command_line import parse_words
from embeddings_store.errors import SpaceMismatchError, UsageError
from embeddings_store.schema import volume_id
from extract.bucket.folder import FolderSource
from extract.bucket.source import ObjectInfo
from extract.dicom.reader import read_dicom
from extract.encode import BatchEncoder, EncodedBatch
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.random_init import random_encoder
from extract.options import ExtractOptions
from extract.pipeline import extract
from extract.preprocess import preprocess
from extract.preset import PRESETS
from finetune.errors import DivergedError
from finetune.model.network import groups_of
from finetune.recipe.load import load_config
from finetune.train import Finetuned

BASELINES = {"dummy", "age", "site", "age+site", "raw intensity statistics", "pixels"}


def same_numbers(one: Finetuned, two: Finetuned) -> bool:
    unlike = {"id", "seconds", "command", "model_sha256"}
    first, second = (done.record.to_dict() for done in (one, two))
    return all(first[name] == second[name] for name in first.keys() - unlike)


def weights_of(done: Finetuned) -> dict[str, bytes]:
    """The head's and the encoder's weights (the metadata of .safetensors have no fixed order)."""
    head = load_file(done.folder / "model" / "head.safetensors")
    digest = load_checkpoint(done.folder / "model" / "encoder.safetensors").weights_sha256
    return {name: weight.numpy().tobytes() for name, weight in head.items()} | {"encoder": digest.encode()}


def test_a_run_folder_is_complete_and_reads_like_a_probe(phantom: Path, tmp_path: Path) -> None:
    done = run(phantom, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [done.record.id]
    assert done.folder.name.startswith("20261122-150301-finetune-four-class-")
    assert {path.name for path in done.folder.iterdir()} == {
        "run.json", "predictions.parquet", "cohort.parquet", "config.yaml", "model",
    }  # fmt: skip
    loaded = load_run(done.folder)
    assert loaded.record == done.record
    assert (loaded.record.fitted.model, loaded.record.asked.phantom, done.failures) == ("finetune", True, {})
    assert set(loaded.predictions["model"]) == {"finetune"} | BASELINES
    assert set(loaded.record.judged.baselines) == BASELINES
    missing = {line["name"]: line["reason"] for line in loaded.record.rivals.baselines_missing}
    assert "random-initialised twin" in missing
    assert "everybody in train was scanned alike" in missing["device+protocol"]
    assert loaded.record.fitted.parameters["stages"] == ["head", "last", "all"]
    assert [epoch["stage"] for epoch in loaded.record.fitted.parameters["history"]] == ["head"] * 2 + ["last"] * 2 + [
        "all"
    ] * 2
    assert "optimistic" in loaded.record.fitted.parameters["caution"]
    assert "optimistic" in next(step["reason"] for step in loaded.record.cohort.flow if step["step"] == "val")
    settled = {"precision": "fp32", "recompute": False}  # what the recipe leaves to the device
    assert load_config(done.folder / "config.yaml") == SHORT.model_copy(update=settled)
    assert (
        loaded.record.asked.embedding_space["weights_sha256"]
        == random_encoder("random:tiny", IMAGE_SIZE).weights_sha256
    )


@pytest.mark.parametrize(("cache", "tolerance"), [("float32", 1e-4), ("uint8", 5e-3)])
def test_the_saved_files_give_the_recorded_predictions(
    phantom: Path, tmp_path: Path, cache: str, tolerance: float
) -> None:
    done = run(phantom, tmp_path, config=SHORT.model_copy(update={"cache": cache}))
    folder = done.folder / "model"
    encoder = load_checkpoint(folder / "encoder.safetensors")
    assert encoder.weights_sha256 == done.record.fitted.parameters["encoder"]["weights_sha256"]
    standardiser = Standardiser.load(folder)
    with safe_open(folder / "head.safetensors", framework="pt") as file:
        weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        assert json.loads(file.metadata()["classes"]) == done.record.asked.classes
    expected = pick_predictions(load_run(done.folder).predictions, model="finetune", level="volume", split="val")
    group = groups_of(standardiser, np.array(["cirrus_mac"]))
    found = {}
    for path in scans(phantom, "val"):
        key = path.relative_to(phantom).as_posix()
        image = preprocess(read_dicom(path.read_bytes()), PRESETS["pretrain"], IMAGE_SIZE)
        pooled = encoder.module(torch.from_numpy(image[None]))["last"].mean(1).numpy()
        x = (pooled - standardiser.mean[group]) / standardiser.scale[group]
        logits = x @ weight.numpy().T + bias.numpy()
        found[volume_id(key)] = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert sorted(found) == sorted(expected.unit.tolist())
    np.testing.assert_allclose([found[unit] for unit in expected.unit], expected.probability, atol=tolerance)


def test_the_best_epoch_is_published_and_not_the_last(phantom: Path, tmp_path: Path) -> None:
    record = run(phantom, tmp_path, config=load_config(None, changes=PLAIN, epochs=4)).record
    best = record.fitted.parameters["selection"]["best"]
    assert best != record.fitted.parameters["history"][-1]
    assert record.judged.metrics["participant"]["val"]["log_loss"].value == pytest.approx(
        best["val_log_loss"], abs=1e-4
    )
    assert record.fitted.parameters["history"][-1]["val_log_loss"] > best["val_log_loss"] + 1e-3


def test_the_head_alone_leaves_the_encoder_as_it_was(phantom: Path, tmp_path: Path) -> None:
    start = random_encoder("random:tiny", IMAGE_SIZE).weights_sha256
    head = run(phantom, tmp_path, stages=("head",)).record.fitted.parameters["encoder"]["weights_sha256"]
    assert head == start


def test_the_same_seed_gives_the_same_weights_and_another_one_others(phantom: Path, tmp_path: Path) -> None:
    one, two, other = (
        run(phantom, tmp_path / str(n), seed=seed, stages=("head", "last")) for n, seed in enumerate((3, 3, 4))
    )
    assert same_numbers(one, two)
    assert weights_of(one) == weights_of(two)
    assert weights_of(one)["weight"] != weights_of(other)["weight"]


def test_the_test_split_is_neither_read_nor_predicted(phantom: Path, tmp_path: Path) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    for path in scans(bucket, "test"):
        path.write_bytes(b"no DICOM: whoever reads this fails")
    done = run(bucket, tmp_path / "runs", stages=("head",), cache_dir=tmp_path / "cache")
    assert done.failures == {}
    assert done.record.cohort.splits["test"]["participants"] == 4
    loaded = load_run(done.folder)
    assert set(loaded.predictions["split"]) == {"val"}
    kept = {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()}
    opened = [*scans(bucket, "train"), *scans(bucket, "val")]
    assert kept == {volume_id(path.relative_to(bucket).as_posix()) for path in opened}
    assert same_numbers(done, run(phantom, tmp_path / "others", stages=("head",)))


def test_splits_are_made_for_scans_that_name_nobody_and_used_again(phantom: Path, tmp_path: Path) -> None:
    group = table(phantom).set_index("participant_id")["study_group"]
    files = sorted(phantom.rglob("*.dcm"))
    case = ["yes" if group[path.parent.name] == max(group) else "no" for path in files]
    lines = [f"{path.relative_to(phantom).as_posix()},{one}" for path, one in zip(files, case, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,dr", *lines]))
    asked = {"participants": None, "labels": tmp_path / "labels.csv", "target": "dr", "stages": ("head",)}
    first = run(phantom, tmp_path / "runs", make_splits=(50.0, 25.0, 25.0), **asked)
    assert (tmp_path / "splits.csv").exists()
    cohort = load_run(first.folder).cohort
    assert cohort.groupby("participant")["split"].nunique().max() == 1
    assert set(cohort["split"]) == {"train", "val", "test"}
    again = run(phantom, tmp_path / "runs", **asked)
    assert again.record.cohort.cohort_sha256 == first.record.cohort.cohort_sha256
    assert again.record.cohort.splits_from["kind"] == "kept"


def test_val_chooses_and_never_teaches(phantom: Path, tmp_path: Path) -> None:
    one_epoch = load_config(None, changes=PLAIN, epochs=1)
    before = run(phantom, tmp_path / "runs", config=one_epoch, stages=("last",))
    bucket = copy_of(phantom, tmp_path / "bucket")
    first, *others = scans(bucket, "val")
    for path in others:
        path.unlink()
    after = run(bucket, tmp_path / "runs", config=one_epoch, stages=("last",))
    assert first.exists()
    assert weights_of(before) == weights_of(after)


def test_broken_volumes_are_counted_with_their_reason(phantom: Path, tmp_path: Path) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    broken, cut, *_ = scans(bucket, "train")
    broken.write_bytes(b"no DICOM")
    cut.write_bytes(cut.read_bytes()[:-1000])
    done = run(bucket, tmp_path / "runs", stages=("head",))
    assert done.failures == {"NotDicom": 1, "ShortPixelData": 1}
    steps = {step["step"]: step for step in done.record.cohort.flow}
    assert (steps["store"]["volumes"], steps["NotDicom"]["volumes"], steps["analysed"]["volumes"]) == (32, 1, 30)
    assert steps["NotDicom"]["kind"] == "excluded"
    assert steps["NotDicom"]["reason"].startswith("failed at decode")
    assert broken.name not in json.dumps(done.record.to_dict())


def test_a_bucket_without_any_usable_volume_is_refused(phantom: Path, tmp_path: Path) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    for path in bucket.rglob("*.dcm"):
        path.write_bytes(b"no DICOM")
    with pytest.raises(CohortError, match=r"none of 24 volumes .* could be used.*first failure"):
        run(bucket, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_participant_in_two_splits_is_refused(phantom: Path, tmp_path: Path) -> None:
    people = table(phantom)
    leaked = people.iloc[[1]].assign(recommended_split="val")
    path = tmp_path / "participants.tsv"
    with path.open("w") as file:
        people.to_csv(file, sep="\t", index=False)
        leaked.to_csv(file, sep="\t", index=False, header=False)
    with pytest.raises(LeakError, match=leaked["participant_id"].item()):
        run(phantom, tmp_path / "runs", participants=path)


def test_one_scan_under_two_participants_is_refused(phantom: Path, tmp_path: Path) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    shutil.copyfile(scans(bucket, "train")[0], scans(bucket, "val")[0])
    with pytest.raises(LeakError, match="the same scan stands under several participants"):
        run(bucket, tmp_path / "runs")


def test_a_mirrored_copy_under_another_participant_is_refused_and_can_be_vouched_for(
    phantom: Path, tmp_path: Path
) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    first, other = scans(bucket, "train")[0], scans(bucket, "val")[0]
    file = pydicom.dcmread(first)
    file.PixelData = np.ascontiguousarray(file.pixel_array[:, :, ::-1]).tobytes()
    file.save_as(other)
    names = sorted([first.parent.name, other.parent.name])
    with pytest.raises(LeakError, match=rf"{names[0]} \(\w+\) and {names[1]} \(\w+\), distance .* by thumbnails"):
        run(bucket, tmp_path / "runs", stages=("head",))
    twins = tmp_path / "twins.txt"
    twins.write_text(" ".join(names))
    done = run(bucket, tmp_path / "runs", stages=("head",), allow_near_copies=twins)
    assert [step["volumes"] for step in done.record.cohort.flow if step["step"] == "near copies vouched for"] == [2]
    assert done.record.cohort.near_copies_allowed == {"people": [], "pairs": [names]}


def test_a_copy_of_a_scan_is_left_out(phantom: Path, tmp_path: Path) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    first = scans(bucket, "train")[0]
    shutil.copyfile(first, first.with_name(first.name.replace("2.25.", "2.25.9")))
    done = run(bucket, tmp_path / "runs", stages=("head",))
    assert [step["volumes"] for step in done.record.cohort.flow if step["step"] == "copy"] == [1]


def test_kept_volumes_are_not_read_again(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"cache_dir": tmp_path / "cache", "stages": ("last",)}
    first = run(phantom, tmp_path / "runs", **asked)
    fetch = FolderSource.fetch

    def fetch_tables_alone(source: FolderSource, info: ObjectInfo) -> Any:
        return pytest.fail("a volume was read") if info.key.endswith(".dcm") else fetch(source, info)

    monkeypatch.setattr(FolderSource, "fetch", fetch_tables_alone)
    assert same_numbers(first, run(phantom, tmp_path / "runs", **asked))


def test_more_blocks_than_there_are_is_refused(phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 blocks, got 5"):
        run(phantom, tmp_path, config=load_config(None, changes=("stages.last.blocks=5",)))


def test_a_failure_leaves_no_half_run(phantom: Path, tmp_path: Path) -> None:
    hot = load_config(None, changes=("stages.head.learning_rate=1e30",))
    with pytest.raises(DivergedError, match="not finite"):
        run(phantom, tmp_path, config=hot)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_takes_the_first_volumes(phantom: Path, tmp_path: Path) -> None:
    done = run(phantom, tmp_path, limit=30, stages=("head",), encoder="random:tiny,seed=2")
    assert next(step for step in done.record.cohort.flow if step["step"] == "store")["volumes"] == 30


@pytest.fixture(scope="module")
def store(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Embeddings of the phantom by the encoder that the tests fine-tune."""
    place = str(tmp_path_factory.mktemp("stored") / "store")
    extract(parse_words(
        ExtractOptions,
        bucket=str(phantom), store=place, encoder="random:tiny", image_size="4,32,32", pools="mean", device="cpu",
    ))  # fmt: skip
    return place


EXACT = ("cache=float32",)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_stage_of_the_head_is_the_same_from_a_store_and_from_volumes(
    phantom: Path, tmp_path: Path, store: str, kind: str
) -> None:
    config = load_config(None, changes=(*EXACT, f"head.kind={kind}"), epochs=3)
    volumes = run(phantom, tmp_path / "a", stages=("head",), config=config)
    stored = run(phantom, tmp_path / "b", stages=("head",), config=config, store=store, bucket=None)
    one, two = (
        pick_predictions(load_run(done.folder).predictions, model="finetune", level="volume", split="val")
        for done in (volumes, stored)
    )
    assert one.unit.tolist() == two.unit.tolist()
    np.testing.assert_allclose(one.logits, two.logits, atol=1e-5)
    assert volumes.record.cohort.cohort_sha256 == stored.record.cohort.cohort_sha256
    assert "no volume was read" in stored.record.asked.snapshot["note"]


def test_an_attentive_head_learns_from_stored_tokens(phantom: Path, tmp_path: Path, store: str) -> None:
    config = load_config(None, changes=(*EXACT, "head.kind=attentive"), epochs=2)
    volumes = run(phantom, tmp_path / "a", stages=("head",), config=config)
    stored = run(phantom, tmp_path / "b", stages=("head",), config=config, store=store, bucket=None)
    one, two = (
        pick_predictions(load_run(done.folder).predictions, model="finetune", level="volume", split="val")
        for done in (volumes, stored)
    )
    np.testing.assert_allclose(one.logits, two.logits, atol=2e-2)  # stored tokens are float16


def test_a_store_saves_the_encoding_of_later_stages(
    phantom: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, changes=(*PLAIN, *EXACT), epochs=1)
    volumes = run(phantom, tmp_path / "a", stages=("head", "last"), config=config)
    monkeypatch.setattr("extract.encode.BatchEncoder.encode", lambda *_: pytest.fail("a volume was encoded"))
    stored = run(phantom, tmp_path / "b", stages=("head", "last"), config=config, store=store)
    found = [done.record.judged.metrics["participant"]["val"]["log_loss"].value for done in (volumes, stored)]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_a_store_of_another_encoder_is_refused(phantom: Path, tmp_path: Path, store: str) -> None:
    with pytest.raises(SpaceMismatchError, match="weights_sha256"):
        run(phantom, tmp_path, store=store, encoder="random:tiny,seed=2")


@pytest.fixture(scope="module")
def rounded(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same in bf16, of some volumes."""
    place = str(tmp_path_factory.mktemp("rounded") / "store")
    extract(parse_words(
        ExtractOptions, bucket=str(phantom), store=place, encoder="random:tiny", image_size="4,32,32", pools="mean",
        tokens="none", device="cpu", precision="bf16", limit=20,
    ))  # fmt: skip
    return place


def test_a_store_in_bf16_serves_a_recipe_in_bf16_and_the_rest_is_encoded_alike(
    phantom: Path, tmp_path: Path, store: str, rounded: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = load_config(None, changes=(*PLAIN, *EXACT, "precision=bf16"), epochs=1)
    encoded: list[str] = []
    encode = BatchEncoder.encode

    def count(encoder: BatchEncoder, batch: np.ndarray) -> EncodedBatch:
        encoded.append(encoder._backend.precision)
        return encode(encoder, batch)

    monkeypatch.setattr(BatchEncoder, "encode", count)
    done = run(phantom, tmp_path / "bf16", stages=("last",), config=config, store=rounded)
    assert set(encoded) == {"bf16"}
    assert done.record.asked.embedding_space["precision"] == "bf16"
    said = capsys.readouterr().err
    assert f"--store {rounded}: the head begins with bf16 vectors" in said
    exact = run(phantom, tmp_path / "fp32", stages=("head",), config=config, store=store)
    assert exact.record.asked.embedding_space["precision"] == "fp32"
    assert "the head begins with" not in capsys.readouterr().err


def test_a_store_in_bf16_is_refused_where_the_recipe_is_exact(phantom: Path, tmp_path: Path, rounded: str) -> None:
    with pytest.raises(SpaceMismatchError, match=r"vectors in fp32, .* got bf16: say --set precision=bf16, or"):
        run(phantom, tmp_path, store=rounded)
    with pytest.raises(SpaceMismatchError, match="weights_sha256, precision"):
        run(phantom, tmp_path, store=rounded, encoder="random:tiny,seed=2")


def test_a_run_that_goes_on_encodes_nothing_again(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start dies in training; its work folder has the vectors, and one of them is damaged."""
    config = load_config(None, changes=(*PLAIN, *EXACT), epochs=1)
    whole = run(phantom, tmp_path / "whole", stages=("head",), config=config)
    encoded: list[int] = []
    encode = BatchEncoder.encode

    def count(encoder: BatchEncoder, batch: np.ndarray) -> EncodedBatch:
        encoded.append(len(batch))
        return encode(encoder, batch)

    monkeypatch.setattr(BatchEncoder, "encode", count)
    with monkeypatch.context() as dying:
        dying.setattr("finetune.train.new_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(phantom, tmp_path / "again", stages=("head",), config=config)
    kept = sorted((tmp_path / "again").rglob("vectors/*.npy"))
    assert len(kept) == len(encoded) > 5
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    encoded.clear()
    again = run(phantom, tmp_path / "again", stages=("head",), config=config)
    assert len(encoded) == 1
    assert again.record.judged.metrics == whole.record.judged.metrics


def test_a_run_without_a_source_is_refused(phantom: Path, tmp_path: Path, store: str) -> None:
    with pytest.raises(UsageError, match="--bucket is missing"):
        run(phantom, tmp_path, bucket=None)
    with pytest.raises(UsageError, match="--bucket is missing"):
        run(phantom, tmp_path, bucket=None, store=store)
    with pytest.raises(UsageError, match="--limit"):
        run(phantom, tmp_path, bucket=None, store=store, stages=("head",), limit=3)
    assert options(phantom, tmp_path, store=store, stages=("head",)).needs_volumes is False


def test_lora_gives_an_encoder_that_can_be_read_everywhere(phantom: Path, tmp_path: Path) -> None:
    config = load_config(None, changes=("stages.lora.augment=0",), epochs=1)
    done = run(phantom, tmp_path, stages=("lora",), config=config)
    tuned = load_checkpoint(done.folder / "model" / "encoder.safetensors")
    start = random_encoder("random:tiny", IMAGE_SIZE)
    changed = {
        name for name, weight in start.module.state_dict().items()
        if not torch.equal(weight, tuned.module.state_dict()[name])
    }  # fmt: skip
    assert changed == {f"blocks.{block}.attn.{part}.weight" for block in range(4) for part in ("qkv", "proj")}


def test_without_an_effect_the_score_stays_at_chance_and_the_record_compares_the_stages(tmp_path: Path) -> None:
    bucket = make_bucket(tmp_path / "bucket", participants=32, effect_um=0.0)
    done = run(bucket, tmp_path / "runs", task="healthy-vs-rest", stages=("head", "last"),
               config=load_config(None, changes=(*PLAIN, "batch_size=16"), epochs=1), replicates=200)  # fmt: skip
    p_values = done.record.judged.permutation["val"]["p_values"]
    assert p_values["macro_auroc"].value > 0.01
    assert set(done.record.fitted.parameters["stages_compared"]["balanced_accuracy"]) == {"head", "last"}
