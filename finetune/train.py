"""The verb ``finetune``: train encoder and head on the volumes of a bucket, in stages. Reads from top to bottom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from classify.baselines.covariates import TWIN_MISSING, choose_baselines, describe_units, predict_baselines
from classify.cohort.identity import with_groups
from classify.cohort.table import Cohort
from classify.features.standardise import Standardiser
from classify.fitting.aggregate import aggregate_levels
from classify.judging.split import JudgedSplit, judge_split
from classify.run.earlier import Standing, check_earlier
from classify.run.folder import MODEL, digest_models, new_run_id, run_folder, save_run, save_tables
from classify.run.predictions import Predictions, judged_of, rows_of, stack_predictions
from classify.run.record import Missing, ModelFacts, Rivals, RunRecord
from classify.run.stopwatch import Stopwatch
from embeddings_store.terminal.console import say
from extract.stop import StopRequest, stop_on_signals
from finetune.data.locked import save_seen
from finetune.model.checkpoint import RECIPE, save_model
from finetune.model.network import MODEL_NAME, VolumeClassifier
from finetune.options import FinetuneOptions
from finetune.parallel.processes import OneProcess, Processes
from finetune.recipe.load import save_config
from finetune.run.prepared import Prepared, prepare
from finetune.run.record import (
    OPTIMISTIC,
    describe_features,
    describe_making,
    describe_question,
    describe_training,
)
from finetune.run.tracked import Follower
from finetune.training.epochs import BestWeights, Epoch
from finetune.training.loop import Trainer, predict
from finetune.training.resume import STATES, StateFolder
from finetune.training.run_stages import Feeds, new_model, train_stages

__all__ = ["OPTIMISTIC", "FinetuneOptions", "Finetuned", "finetune"]

TRAINING = "the step at hand is finished, and the training state is saved; a second signal ends the run at once"


@dataclass(frozen=True)
class Finetuned:
    """A published run: its record and folder, and how many volumes of train and val failed, by error class."""

    record: RunRecord
    folder: Path
    failures: dict[str, int]


def predict_others(cohort: Cohort) -> tuple[dict[str, Predictions], list[Missing]]:
    """Predict val by every baseline that can be made, and name the others with their reasons."""
    fitted_on, judged_on = (describe_units(cohort, split) for split in ("train", "val"))
    names, missing = choose_baselines(cohort.task, fitted_on, judged_on)
    return predict_baselines(cohort.task, fitted_on, judged_on, split="val", names=names), missing


def finetune(
    options: FinetuneOptions, *, now: datetime | None = None, tell: Callable[[str], None] = say,
    processes: Processes | None = None,
) -> Finetuned | None:  # fmt: skip
    """Train in stages, keep the weights that did best on val, judge them beside the baselines, publish the run.

    The volumes of test are neither read nor predicted. tell: hears of every epoch and of a failing tracker.
    processes: those of torchrun; the first publishes, the others give None. A run that was killed goes on where it was,
    with the same weights in the end.
    Raises: UsageError, RunError (CohortError, LeakError, BucketError, CheckpointError, DeviceError, DivergedError,
    StoppedError).
    """
    clock, together, now = Stopwatch(), processes or OneProcess(), now or datetime.now(UTC)
    follower = Follower(options.track if together.rank == 0 else None, tell)
    with prepare(options, together) as ready, follower.following(ready):
        clock.lap("read")
        options = ready.options
        task, inputs, backend = ready.task, ready.inputs, ready.backend
        marked = with_groups(inputs.marked, inputs.cohort)
        standing = check_people(options, ready, marked, together, tell)
        classes, train = len(task.classes), inputs.features.only("train")
        standardiser = Standardiser.fit(train.x, train.protocol)
        hear = tell if together.rank == 0 else lambda _: None
        model = new_model(options.recipe, ready.encoder, backend, standardiser, classes, options.seed, train, hear)
        feeds = Feeds(options.recipe, inputs, ready.images, standardiser, backend, classes, options.seed)
        with stop_on_signals(tell, TRAINING) as stop:
            trainer = _new_trainer(model, ready, together, hear, stop, follower.watch)
            history, best = train_stages(trainer, options.stages, feeds)
        clock.lap("fit")
        levels = predict(replace(trainer, stop=StopRequest()), feeds.val(options.stages[-1]))  # trained to its end
        if together.rank > 0:
            return None
        others, missing = predict_others(inputs.cohort)
        said = judge(levels, others, ready)
        clock.lap("evaluate")
        run_id = new_run_id(now, MODEL_NAME, task.name)
        with run_folder(options.runs, run_id) as aside:
            tuned = save_model(model, ready.encoder, standardiser, task.classes, options.recipe.head, aside / MODEL)
            save_seen(inputs.cohort, aside / MODEL)
            save_config(options.recipe, aside / RECIPE)
            training = describe_training(options, ready.encoder, tuned, backend, together.size, history, best)
            record = RunRecord(
                id=run_id,
                made=describe_making(options, now, clock, digest_models(aside)),
                asked=describe_question(options, inputs, ready.space, ready.encoder),
                cohort=ready.tables.describe_run(
                    inputs.cohort, marked, said.without, standing, balanced=options.recipe.class_weights
                ),
                fitted=ModelFacts(MODEL_NAME, describe_features(inputs), training),
                judged=said.judged,
                rivals=Rivals([TWIN_MISSING, *missing]),
            )
            save_tables(aside, stack_predictions([*levels.values(), *others.values()]), inputs.cohort.table, marked)
            folder = save_run(aside, record)
        follower.run_id = run_id
    return Finetuned(record, folder, inputs.failures)


def judge(
    levels: dict[str, Predictions], others: dict[str, Predictions], ready: Prepared[FinetuneOptions]
) -> JudgedSplit:
    """Judge the model on val beside the baselines."""
    eye, options = ready.inputs.features.only("val").eye, ready.options
    return judge_split(
        levels, others, ready.inputs.cohort,
        lambda chosen: judged_of(
            aggregate_levels(rows_of(levels["volume"], chosen), eye[chosen], judged=ready.task.judged)
        ),
        pretrained=ready.tables.pretrained, replicates=options.replicates, seed=options.seed,
    )  # fmt: skip


def _new_trainer(
    model: VolumeClassifier,
    ready: Prepared[FinetuneOptions],
    together: Processes,
    tell: Callable[[str], None],
    stop: StopRequest,
    watch: Callable[[Sequence[Epoch]], None],
) -> Trainer:
    return Trainer(
        model, ready.options.recipe, len(ready.task.classes), ready.options.seed, ready.backend, together,
        BestWeights(), tell, watch,
        state=StateFolder(ready.work / STATES, ready.inputs.fingerprint), stop=stop,
        compiled=ready.options.compiled,
    )  # fmt: skip


def check_people(
    options: FinetuneOptions,
    ready: Prepared[FinetuneOptions],
    marked: pd.DataFrame,
    together: Processes,
    tell: Callable[[str], None],
) -> Standing:
    """Say how people stand against earlier runs, then keep splits that were made for this one. Raises: LeakError."""
    standing = check_earlier(
        options.runs, ready.inputs.cohort, marked, ready.space.id, resplit=options.resplit, tell=tell
    )
    if together.rank == 0:
        ready.tables.keep_splits(marked, tell)
    return standing
