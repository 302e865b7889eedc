"""What each stage brought is measured on val and said in words, whichever way it went."""

from pathlib import Path

import pytest
from finetune_study import PLAIN, SHORT, make_bucket, run
from grating_study import Grating, gain

from extract.encoder_options import EncoderChoice
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.load import load_config
from finetune.train import Finetuned

LEARNING = (
    "batch_size=8", "stages.head.epochs=3", "stages.head.learning_rate=1e-3", "stages.last.epochs=5",
    "stages.last.learning_rate=5e-3", "stages.all.epochs=3", "stages.all.learning_rate=1e-3",
    "stages.all.encoder_learning_rate=3e-5", "stages.last.encoder_learning_rate=1e-4", "stages.last.patience=3",
    "stages.all.patience=2", "first_head=drawn",
)  # fmt: skip


def best_of(done: Finetuned, stage: str) -> tuple[float, float]:
    """Balanced accuracy, and minus the log-loss, of a stage's best epoch, from the history alone."""
    epochs = [epoch for epoch in done.record.fitted.parameters["history"] if epoch["stage"] == stage]
    return max((epoch["val_balanced_accuracy"], -epoch["val_log_loss"]) for epoch in epochs)


@pytest.mark.long
@pytest.mark.parametrize("amplitude", [0.3, 0.4, 0.6])
def test_the_default_recipe_beats_the_probe_on_a_faint_grating(tmp_path: Path, amplitude: float) -> None:
    grating = Grating.make(tmp_path, amplitude, seed=2)
    probe = grating.probe()
    for stages in (("head", "last"), ("head", "all")):
        assert gain(grating.fine_tune(FinetuneConfig(), stages), probe).low > 0, stages


@pytest.mark.long
def test_where_there_is_nothing_to_find_it_is_not_worse_than_by_noise(tmp_path: Path) -> None:
    grating = Grating.make(tmp_path, 0.0, seed=2)
    probe = grating.probe()
    for stages in (("head", "last"), ("head", "all")):
        assert gain(grating.fine_tune(FinetuneConfig(), stages), probe).high > 0, stages


@pytest.mark.slow
def test_on_an_effect_training_deeper_does_better_than_the_head_alone(tmp_path: Path) -> None:
    bucket = make_bucket(tmp_path / "bucket", participants=48, scale=0.1)
    choice = EncoderChoice(encoder="random:tiny", image_size=(8, 96, 96))
    done = run(bucket, tmp_path / "runs", **choice.arguments(), config=load_config(None, changes=(*PLAIN, *LEARNING)))
    scores = [best_of(done, stage) for stage in ("head", "last", "all")]
    best = max(range(3), key=scores.__getitem__)
    assert best > 0, "deeper is better than the head alone; which of the two wins hangs on the last bits of a sum"
    compared = done.record.fitted.parameters["stages_compared"]
    assert list(compared["balanced_accuracy"].values()) == [score for score, _ in scores]
    whole, fell = "each stage did at least as well on val as those before it", "stage all did not improve on stage last"
    assert compared["note"].startswith(whole if best == 2 else fell)
    assert done.record.fitted.parameters["selection"]["best"]["stage"] == ("head", "last", "all")[best]
    assert done.record.judged.metrics["participant"]["val"]["balanced_accuracy"].value > 0.5  # chance is 0.25


def test_a_stage_that_brings_nothing_is_named(phantom: Path, tmp_path: Path) -> None:
    still = ("stages.all.encoder_learning_rate=1e-30", "stages.all.learning_rate=1e-30")
    config = load_config(None, changes=(*PLAIN, *still), epochs=2)
    done = run(phantom, tmp_path / "both", config=config, stages=("last", "all"))
    assert best_of(done, "all") == best_of(done, "last")
    assert done.record.fitted.parameters["stages_compared"]["note"] == "stage all did not improve on stage last on val"
    assert done.record.fitted.parameters["selection"]["best"]["stage"] == "last"
    alone = run(phantom, tmp_path / "alone", config=config, stages=("last",))
    assert done.record.fitted.parameters["encoder"] == alone.record.fitted.parameters["encoder"]


def test_the_history_tells_the_rates_of_head_and_encoder(phantom: Path, tmp_path: Path) -> None:
    done = run(phantom, tmp_path, config=SHORT, stages=("head", "last"))
    head, last = (
        [e for e in done.record.fitted.parameters["history"] if e["stage"] == stage] for stage in ("head", "last")
    )
    assert [epoch["epoch"] for epoch in (*head, *last)] == [1, 2, 1, 2]
    assert {epoch["encoder_learning_rate"] for epoch in head} == {0.0}
    for epoch in last:
        ratio = SHORT.stages.last.encoder_learning_rate / SHORT.stages.last.learning_rate
        assert epoch["encoder_learning_rate"] == pytest.approx(ratio * epoch["learning_rate"])
    assert 0 < last[1]["learning_rate"] < last[0]["learning_rate"] <= SHORT.stages.last.learning_rate
