"""The heads on tokens and on bags through the verbs and the command line, on a store that holds tokens."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classify_study import CHANNELS, Study, hold_out_little, make_study
from command_line import Command
from token_study import GRID, TELLING, fill_token_store, make_token_study

from classify.evaluate import evaluate
from classify.features.tokens import with_tokens
from classify.fitting.model import load_model
from classify.fitting.source import rebuild_features
from classify.heads.attentive import AttentiveHead
from classify.heads.mil import MilHead
from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.run_options import EvaluateOptions
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot, read_features_source

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold a store with tokens, and its participants.tsv."""
    folder = tmp_path_factory.mktemp("token-study")
    study, tokens = make_token_study(64)
    fill_token_store(study, tokens, folder / "store")
    study.write(folder)
    return folder


@pytest.fixture(autouse=True)
def _one_candidate(monkeypatch: pytest.MonkeyPatch, little_held_out: None) -> None:
    """Keep the runs short; ``done`` was made before with all of them."""
    monkeypatch.setattr("classify.heads.network.LEARNING_RATES", (1e-2,))
    monkeypatch.setattr("classify.heads.network.WEIGHT_DECAYS", (1.0,))


def opened(folder: Path) -> Snapshot:
    url = str(folder / "store")
    return with_tokens(read_features_source(url), url)


def run(folder: Path, runs: Path, model: str = "attentive", **options: Any) -> Probed:
    asked = {"replicates": 20, "runs": runs, "participants": folder / "participants.tsv"} | options
    return probe(
        ProbeOptions(store="store", model=model, **asked), now=NOW, read=lambda *_: opened(folder), tell=lambda _: None
    )


def auroc(done: Probed) -> float:
    return float(done.record.judged.metrics["participant"]["val"]["macro_auroc"].value)


@pytest.fixture(scope="module")
def done(folder: Path) -> Probed:
    """A run of the attentive probe as the command line makes it when told nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        hold_out_little(patch)
        return run(folder, folder / "runs")


def test_the_attentive_probe_sees_what_mean_pooling_loses(folder: Path, tmp_path: Path, done: Probed) -> None:
    assert auroc(done) > 0.85
    assert auroc(done) > auroc(run(folder, tmp_path, "linear")) + 0.05
    assert done.record.fitted.features["token_grid"] == list(GRID)
    assert done.record.fitted.features["pools"] == []
    assert done.record.fitted.features["dimensions"] == 32 * CHANNELS
    assert done.record.fitted.parameters["tokens"] == 32
    model = load_model(load_run(done.folder))
    assert isinstance(model.head, AttentiveHead)
    features = rebuild_features(load_run(done.folder), str(folder / "store"))
    looked = model.head.attention(features.only("val").x).mean(axis=(0, 1))
    assert looked.argmax() == np.ravel_multi_index(TELLING, GRID)


@pytest.mark.usefixtures("done")  # which makes the snapshot
def test_the_same_seed_gives_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    one, two = (run(folder, tmp_path, token_grid=(1, 2, 1), seed=3).record.to_dict() for _ in range(2))
    assert all(one[name] == two[name] for name in one.keys() - {"id", "seconds", "model_sha256"})


def test_a_token_run_is_evaluated_on_test(folder: Path, done: Probed) -> None:
    options = EvaluateOptions(
        store="store", run=done.folder, participants=folder / "participants.tsv", split="test", replicates=20
    )
    judged = evaluate(options, now=NOW, read=lambda *_: opened(folder), tell=lambda _: None)
    assert judged.record.judged.metrics["participant"]["test"]["macro_auroc"].value is not None


def test_what_does_not_fit_together_is_refused_first(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="--token-grid: linear reads pooled vectors; patch tokens are read by tokens-linear, attentive"
    ):
        run(folder, tmp_path, "linear", token_grid=GRID)
    with pytest.raises(UsageError, match="--pool: attentive reads patch tokens"):
        run(folder, tmp_path, pools=("mean",))
    with pytest.raises(UsageError, match="expected a divisor of the stored 2x4x4"):
        run(folder, tmp_path, token_grid=(2, 3, 4))
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_that_does_not_know_its_store_says_so(folder: Path, tmp_path: Path) -> None:
    options = ProbeOptions(store="store", model="attentive", participants=folder / "participants.tsv", runs=tmp_path)
    with pytest.raises(UsageError, match="nothing here reads them"):
        probe(options, now=NOW, read=lambda *_: read_features_source(str(folder / "store")), tell=lambda _: None)


def make_bag_study() -> Study:
    """A study in which one scan of each participant shows the study group, and that it is the one."""
    study = make_study(64, effect=0.0, scans=2)
    index = study.stored.index
    group = study.people.set_index("participant_id")["study_group"]
    step = {name: number for number, name in enumerate(sorted(group.unique()))}
    rng = np.random.default_rng(1)
    pooled = study.stored.pooled.copy()
    for _, rows in index.groupby("participant").groups.items():
        row = rng.choice(rows.to_numpy())
        pooled[row, :, :, 1] += 6.0
        pooled[row, :, :, 0] += 2.0 * step[group[index["participant"][row]]]
    return Study(study.people, replace(study.stored, pooled=pooled))


def test_mil_hears_the_one_scan_that_tells(tmp_path: Path) -> None:
    study = make_bag_study()
    asked = {"participants": study.write(tmp_path), "runs": tmp_path / "runs", "replicates": 20}

    def of(model: str) -> Probed:
        return probe(
            ProbeOptions(store="store", model=model, **asked),
            now=NOW,
            read=lambda *_: study.stored,
            tell=lambda _: None,
        )

    done = of("mil")
    assert auroc(done) > auroc(of("linear")) + 0.05
    assert done.record.fitted.features["aggregation"] == "the head takes all scans of an eye or participant at once"
    assert isinstance(load_model(load_run(done.folder)).head, MilHead)


def test_tokens_through_the_command_line(folder: Path, tmp_path: Path, command: Command) -> None:
    shared = ("--store", folder / "store", "--participants", folder / "participants.tsv", "--replicates", 20, "--json")
    asked = ("--model", "attentive", "--token-grid", "1x2x2", "--runs", tmp_path)
    done = command("classify", "probe", *asked, *shared)
    assert done.code == 0, done.stderr
    record = done.json
    assert record["features"]["token_grid"] == [1, 2, 2]
    looked = command("classify", "evaluate", "--run", record["path"], "--split", "test", *shared)
    assert looked.code == 0, looked.stderr
    refused = command("classify", "probe", "--model", "attentive", "--token-grid", "1x2", "--runs", tmp_path, *shared)
    assert (refused.code, refused.stdout) == (2, "")
    assert "--token-grid: expected depth x height x width" in refused.stderr


def test_a_store_without_tokens_says_how_to_get_them(tmp_path: Path, command: Command) -> None:
    from test_classify_cli import fill_store

    study = make_study(32)
    fill_store(study, tmp_path / "store")
    asked = ("--store", tmp_path / "store", "--participants", study.write(tmp_path), "--runs", tmp_path / "runs")
    refused = command("classify", "probe", "--model", "attentive", *asked)
    assert (refused.code, refused.stdout) == (2, "")
    assert "extract-embeddings again into another store with --tokens 1x2x2" in refused.stderr.replace("\n", " ")
