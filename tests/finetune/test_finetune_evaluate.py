"""The locked test split of a fine-tuned run: a look is checked, counted, predicted as val was, and told of in full."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from finetune_study import IMAGE_SIZE, NOW, SHORT, copy_of, run, scans, table

from classify.compare import compare
from classify.errors import CohortError, LeakError, RunFolderError
from classify.evaluating.look import Evaluated
from classify.run.folder import COHORT, load_run
from classify.run.ledger import LEDGER
from classify.run.predictions import pick_predictions
from classify.study_options import CompareOptions
from embeddings_store.errors import UsageError
from embeddings_store.schema import volume_id
from extract.dicom.reader import read_dicom
from extract.preprocess import preprocess
from extract.preset import PRESETS
from finetune.evaluate import evaluate
from finetune.model.checkpoint import load_classifier
from finetune.options import LookOptions

EXACT = SHORT.model_copy(update={"cache": "float32"})


@pytest.fixture
def published(phantom: Path, trained: Path, tmp_path: Path) -> Path:
    """A run folder of its own, beside no ledger."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(phantom, tmp_path_factory.mktemp("trained"), config=EXACT, stages=("head", "last")).folder


def look(bucket: Path | None, folder: Path, participants: Path, **changes: Any) -> Evaluated:
    asked = {"replicates": 20, "split": "test"} | {name: changes.pop(name) for name in [*changes] if name != "device"}
    options = LookOptions(
        run=folder, participants=participants, bucket=None if bucket is None else str(bucket), device="cpu", **asked
    )
    return evaluate(options, now=NOW, tell=lambda line: None)


def ledger(folder: Path) -> list[Mapping[str, str]]:
    path = folder.parent / LEDGER
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_look_puts_test_beside_val_as_classify_does(phantom: Path, published: Path) -> None:
    before = load_run(published).record
    seen = look(phantom, published, phantom / "participants.tsv")
    loaded = load_run(published)
    assert loaded.record == seen.record
    assert (seen.looks, [line["run"] for line in ledger(published)]) == (1, [before.id])
    for level in ("volume", "eye", "participant"):
        assert set(loaded.record.judged.metrics[level]) == {"val", "test"}
        assert loaded.record.judged.metrics[level]["val"] == before.judged.metrics[level]["val"]
    for name in ("raw intensity statistics", "pixels", "age+site", "dummy"):
        assert set(loaded.record.judged.baselines[name]) == {"val", "test"}
    entry = loaded.record.evaluations[0]
    assert (np.sum(entry["confusion"]["participant"]), entry["failures"]) == (4, {})
    flow = {step["step"]: step["reason"] for step in loaded.record.cohort.flow}
    assert flow["test"] == "predicted by finetune evaluate on 2026-11-22"
    assert loaded.record.cohort.splits == before.cohort.splits
    then, now = before.to_dict(), loaded.record.to_dict()
    assert {name for name in then if then[name] != now[name]} <= {
        "metrics", "baselines", "contrasts", "permutation", "decision_curves", "subgroups", "flow", "evaluations",
    }  # fmt: skip
    assert sorted(path.name for path in published.parent.glob("[!.]*")) == sorted([published.name, LEDGER])


def test_the_published_encoder_and_head_are_what_predicts(phantom: Path, published: Path) -> None:
    classifier = load_classifier(load_run(published))
    look(phantom, published, phantom / "participants.tsv")
    volumes = pick_predictions(load_run(published).predictions, model="finetune", level="volume", split="test")
    images = {
        volume_id(path.relative_to(phantom).as_posix()): preprocess(
            read_dicom(path.read_bytes()), PRESETS["pretrain"], IMAGE_SIZE
        )
        for path in scans(phantom, "test")
    }
    assert set(images) == set(volumes.unit.tolist())
    logits = classifier.logits(
        torch.from_numpy(np.stack([images[unit] for unit in volumes.unit])), ["cirrus_mac"] * len(images)
    )
    np.testing.assert_allclose(volumes.probability, logits.softmax(1).numpy(), atol=1e-5)
    truth = table(phantom).set_index("participant_id")
    said = {person: truth.loc[person, "recommended_split"] for person in volumes.participant}
    assert set(said.values()) == {"test"}


def test_a_second_look_is_counted_and_may_judge_the_first_again(phantom: Path, published: Path, tmp_path: Path) -> None:
    participants = phantom / "participants.tsv"
    with pytest.raises(UsageError, match="--bucket is missing: nobody has predicted"):
        look(None, published, participants)
    assert ledger(published) == []
    first = look(phantom, published, participants)
    before = load_run(published).predictions
    again = look(None, published, participants)
    assert ([entry["look"] for entry in again.record.evaluations], len(ledger(published))) == ([1, 2], 2)
    pd.testing.assert_frame_equal(
        *(
            frame.sort_values(["model", "level", "split", "unit"], ignore_index=True)
            for frame in (before, load_run(published).predictions)
        )
    )
    assert again.record.judged.metrics == first.record.judged.metrics
    assert again.record.judged.baselines == first.record.judged.baselines
    pretrained = tmp_path / "seen.txt"
    pretrained.write_text("\n".join(table(phantom).query("recommended_split == 'test'")["participant_id"][:1]))
    flagged = look(None, published, participants, pretrain_participants=pretrained)
    assert flagged.record.cohort.pretraining["participants"]["test"] == 1


def refused(bucket: Path, folder: Path, participants: Path, error: type[Exception], message: str) -> None:
    before = (folder / "run.json").read_text()
    with pytest.raises(error, match=message):
        look(bucket, folder, participants)
    assert ledger(folder) == []
    assert (folder / "run.json").read_text() == before
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_another_table_another_bucket_and_another_kind_of_run_get_no_look(
    phantom: Path, published: Path, tmp_path: Path
) -> None:
    participants = phantom / "participants.tsv"
    people = table(phantom)
    people.loc[people["recommended_split"] == "test", "study_group"] = "healthy"
    people.to_csv(tmp_path / "other.tsv", sep="\t", index=False)
    refused(phantom, published, tmp_path / "other.tsv", CohortError, "made on the cohort")
    bucket = copy_of(phantom, tmp_path / "bucket")
    scans(bucket, "test")[0].unlink()
    refused(bucket, published, participants, CohortError, r"expected the 8 volumes of test .* found 7 of them")
    record = json.loads((published / "run.json").read_text())
    (published / "run.json").write_text(json.dumps(record | {"model": "linear"}))
    refused(phantom, published, participants, RunFolderError, "expected a run of finetune, got one of linear")


def test_a_scan_of_train_under_a_name_of_test_gets_no_look(phantom: Path, published: Path, tmp_path: Path) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    shutil.copy(scans(bucket, "train")[0], scans(bucket, "test")[0])
    refused(bucket, published, phantom / "participants.tsv", LeakError, "same scan stands under several participants")


def test_a_broken_volume_of_test_is_counted_and_the_others_are_judged(
    phantom: Path, published: Path, tmp_path: Path
) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    scans(bucket, "test")[0].write_bytes(b"no DICOM")
    shutil.copy(scans(bucket, "test")[2], scans(bucket, "test")[3])  # two scans of one person
    record = look(bucket, published, phantom / "participants.tsv").record
    assert record.evaluations[0]["failures"] == {"NotDicom": 1, "constant, or a copy": 1}
    assert record.cohort.splits["test"]["volumes"] == 6
    reason = next(step["reason"] for step in record.cohort.flow if step["step"] == "test")
    assert "1 not used: NotDicom" in reason
    again = look(None, published, phantom / "participants.tsv").record
    assert again.judged.metrics == record.judged.metrics
    assert again.evaluations[1]["failures"] == record.evaluations[0]["failures"]


def test_a_bucket_whose_whole_test_split_is_broken_gets_no_look(phantom: Path, published: Path, tmp_path: Path) -> None:
    bucket = copy_of(phantom, tmp_path / "bucket")
    for path in scans(bucket, "test"):
        path.write_bytes(b"no DICOM")
    refused(bucket, published, phantom / "participants.tsv", CohortError, "none of 8 volumes that may be read")


def test_a_comparison_takes_an_evaluated_run_as_it_takes_a_probe(phantom: Path, published: Path) -> None:
    look(phantom, published, phantom / "participants.tsv")
    options = CompareOptions(run=published, replicates=20, runs=published.parent)
    board = compare(options, clock=lambda: NOW, read=lambda *_: pytest.fail("no store"), tell=lambda line: None)
    assert published.name in {one.run for one in board.record.runs}


def test_a_run_from_before_brightness_was_kept_lacks_only_that_baseline(phantom: Path, published: Path) -> None:
    (published / "model" / "brightness.parquet").unlink()
    record = json.loads((published / "run.json").read_text())
    (published / "run.json").write_text(json.dumps(record | {"model_sha256": {}}))
    record = look(phantom, published, phantom / "participants.tsv").record
    assert set(record.judged.baselines["raw intensity statistics"]) == {"val"}
    assert set(record.judged.baselines["age+site"]) == {"val", "test"}


def test_a_test_split_whose_files_are_others_now_gets_no_look(phantom: Path, published: Path) -> None:
    path = published / COHORT
    cohort = pd.read_parquet(path)
    cohort.assign(size=cohort["size"] + 2).to_parquet(path, index=False)
    refused(
        phantom, published, phantom / "participants.tsv", CohortError, "8 of 8 volumes of test .* are other objects"
    )
