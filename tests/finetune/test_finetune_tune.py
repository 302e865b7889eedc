"""The search: inside train only, pruned, and it goes on after a stop."""

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from finetune_study import options

from embeddings_store.errors import RunError, UsageError
from finetune.data.feeds import Feed
from finetune.options import FinetuneOptions, TrainingOptions, TuneOptions
from finetune.parallel.processes import OneProcess
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.load import load_config
from finetune.run.prepared import prepare
from finetune.search import trial as trials
from finetune.search.study import HEADS
from finetune.search.trial import inside_train, score_of
from finetune.training.epochs import Epoch
from finetune.training.loop import Trainer
from finetune.tune import tune

CONFIG = load_config(
    None, changes=("stages.head.patience=null", "stages.last.augment=0", "stages.last.drop_path=0"), epochs=3
)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FinetuneConfig, tuple[str, ...], Feed, Feed]]:
    """What each trial would be trained on and judged by; nothing is trained, and rates near 0.01 do best."""
    seen: list[tuple[FinetuneConfig, tuple[str, ...], Feed, Feed]] = []

    def train_stages(trainer: Trainer, stages: tuple[str, ...], feeds: object) -> tuple[list[Epoch], Epoch]:
        seen.append((trainer.config, stages, feeds.train("head"), feeds.val("head")))  # type: ignore[attr-defined]
        rate = trainer.config.stages.head.learning_rate
        history: list[Epoch] = []
        for number in range(1, 5):
            history.append(Epoch("head", number, 0.1, max(0.0, 1 - 20 * abs(rate - 0.01)) * number / 4, 0.5))
            trainer.watch(history)
        return history, history[-1]

    monkeypatch.setattr(trials, "train_stages", train_stages)
    return seen


def searched(asked: FinetuneOptions, **changes: Any) -> TuneOptions:
    return TuneOptions(**{one.name: getattr(asked, one.name) for one in fields(TrainingOptions)} | changes)


def test_a_search_sees_train_alone_and_goes_on_where_it_stopped(
    phantom: Path, tmp_path: Path, trained: list[tuple[FinetuneConfig, tuple[str, ...], Feed, Feed]]
) -> None:
    asked = options(phantom, tmp_path / "runs", config=CONFIG, stages=("head", "last"))
    first = tune(searched(asked, trials=6, study=tmp_path / "study"), tell=lambda line: None)
    assert first.record.trials == len(trained) == 6
    again = tune(searched(asked, trials=14, study=tmp_path / "study"), tell=lambda line: None)
    assert again.record.trials == len(trained) == 14
    assert again.record.history[:6] == first.record.history
    assert len({str(trial.parameters) for trial in again.record.history}) == 14
    assert again.record.states.get("pruned", 0) > 0
    assert again.record.best.value == max(trial.value for trial in again.record.history if trial.state == "complete")
    assert load_config(tmp_path / "study" / "best.yaml") == again.config
    assert again.config.stages.head.learning_rate == again.record.best.parameters["learning_rate"]
    for config, stages, fitted, held in trained:
        people = set(fitted.table.participant) | set(held.table.participant)
        assert len(people) == 8  # of train; val and test have the other half
        assert set(fitted.table.participant).isdisjoint(held.table.participant)
        assert config.head.kind in HEADS
        assert stages in {("head",), ("head", "last")}
    assert {stages for _, stages, *_ in trained} == {("head",), ("head", "last")}
    assert {config.stages.last.blocks for config, stages, *_ in trained if len(stages) > 1} <= {1, 2, 3, 4}


def test_another_search_does_not_go_on_in_its_folder(
    phantom: Path, tmp_path: Path, trained: list[tuple[FinetuneConfig, tuple[str, ...], Feed, Feed]]
) -> None:
    asked = options(phantom, tmp_path / "runs", config=CONFIG, stages=("head",))
    tune(searched(asked, trials=1, study=tmp_path / "study"), tell=lambda line: None)
    with pytest.raises(RunError, match="belongs to another search"):
        tune(searched(replace(asked, seed=1), trials=2, study=tmp_path / "study"), tell=lambda line: None)


def test_a_trial_really_trains(phantom: Path, tmp_path: Path) -> None:
    said: list[str] = []
    asked = options(phantom, tmp_path / "runs", config=CONFIG, stages=("head",))
    found = tune(searched(asked, trials=2, study=tmp_path / "study"), tell=said.append)
    assert -0.01 <= found.record.best.value <= 1  # below 0 where the held-back people lack a class
    assert any(line.startswith("trial 2, head 3/3: train loss") for line in said)
    assert list((tmp_path / "runs").iterdir()) == []


def test_other_stages_are_refused(phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a search runs head or head,last"):
        tune(searched(options(phantom, tmp_path), trials=1, study=tmp_path), tell=lambda line: None)


def test_log_loss_only_breaks_ties() -> None:
    worse, better = Epoch("head", 1, 0.0, 0.50, 0.1), Epoch("head", 1, 0.0, 0.52, 9.0)
    assert score_of(worse) < score_of(better)
    assert score_of(replace(worse, val_log_loss=0.2)) < score_of(worse)
    assert score_of(replace(worse, val_balanced_accuracy=None)) < 0


@pytest.mark.filterwarnings("ignore")  # of Ray's own making
@pytest.mark.slow
def test_ray_goes_on_where_the_local_engine_stopped_and_trains_what_it_trains(phantom: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs octprobe[ray]")
    said: list[str] = []
    asked = options(phantom, tmp_path / "runs", config=CONFIG, stages=("head",))
    first = tune(searched(asked, trials=1, study=tmp_path / "study"), tell=said.append)
    found = tune(searched(asked, trials=3, study=tmp_path / "study", engine="ray"), tell=said.append, at_once=1)
    assert (found.record.engine, found.record.trials) == ("ray", 3)
    assert found.record.history[0] == first.record.history[0]
    assert "ray: 2 trials, 1 at a time" in said
    with prepare(asked, OneProcess()) as ready:
        runner = inside_train(ready, asked)
        for trial in found.record.history:
            again = runner.score(trial.parameters, ready.backend, lambda epochs, score: None, lambda line: None)
            assert trial.value == pytest.approx(again, abs=1e-6)
    assert load_config(tmp_path / "study" / "best.yaml") == found.config
    done = tune(searched(asked, trials=3, study=tmp_path / "study", engine="ray"), tell=said.append)
    assert done.record.history == found.record.history


def test_a_missing_ray_and_an_address_without_it_are_one_message(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(phantom, tmp_path / "runs", stages=("head",))
    with pytest.raises(UsageError, match="--ray-address belongs to --engine ray"):
        tune(searched(asked, trials=1, study=tmp_path, ray_address="ray://x:1"), tell=print)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'octprobe\[ray\]'"):
        tune(searched(asked, trials=1, study=tmp_path, engine="ray"), tell=print)
    assert not (tmp_path / "runs").exists()
