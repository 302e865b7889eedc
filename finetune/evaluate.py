"""The verb ``finetune evaluate``: the one look at the locked test split with a fine-tuned model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from classify.baselines.covariates import choose_baselines, describe_units, predict_baselines
from classify.cohort.table import Cohort
from classify.cohort.tables import CohortTables, read_tables
from classify.cohort.tasks import question_of_record
from classify.errors import RunFolderError
from classify.evaluating.look import (
    TEST,
    Evaluated,
    PredictedSplit,
    begin_look,
    check_same_cohort,
    finish_look,
    open_locked,
)
from classify.features.table import table_of
from classify.fitting.aggregate import aggregate_levels
from classify.run.folder import Run
from classify.run.predictions import LEVELS, Predictions, judged_of, pick_predictions, rows_of
from embeddings_store.errors import UsageError
from embeddings_store.publish import place_aside
from embeddings_store.space import EmbeddingSpace
from embeddings_store.terminal.console import say
from extract.bucket.open import open_source
from extract.bucket.source import Source
from extract.load import new_loader
from extract.preset import Recipe
from extract.stages import StageClock
from finetune.data.dataset import VolumeDataset
from finetune.data.images import ImageCache
from finetune.data.locked import read_test, rebuild_cohort
from finetune.data.volumes import STREAMS
from finetune.model.checkpoint import RECIPE, load_classifier
from finetune.model.classifier import Classifier
from finetune.model.network import MODEL_NAME, groups_of
from finetune.options import PRESET, LookOptions, image_recipe
from finetune.parallel.processes import OneProcess
from finetune.parallel.spmd import open_trainer
from finetune.recipe.load import load_config
from finetune.training.epochs import BestWeights
from finetune.training.loop import Trainer, predict
from finetune.training.run_stages import feed_volumes, place_model


@dataclass(frozen=True)
class OpenedTest:
    """The test split of a run, read and checked, and not yet predicted.

    cohort, failures: as in Unlocked. predict: gives the levels. known: baselines of an earlier look, by name.
    """

    cohort: Cohort
    failures: Mapping[str, int]
    predict: Callable[[], dict[str, Predictions]]
    known: Mapping[str, Predictions] = field(default_factory=dict)


def evaluate(options: LookOptions, *, now: datetime | None = None, tell: Callable[[str], None] = say) -> Evaluated:
    """Predict the test split with the encoder and head of a finished run, and put what came out into its folder.

    Every volume is read and checked before the look is counted, and predicted after it. Raises: UsageError,
    RunFolderError, CohortError, LeakError, BucketError, CheckpointError, DeviceError; then nobody looked.
    """
    run = open_locked(options)
    classifier = load_classifier(run)
    tables = read_tables(
        options.label_source.of_run(run.record), question_of_record(run.record), options.measurements,
        options.pretrain_participants,
        tell=tell,
    )  # fmt: skip
    whole = rebuild_cohort(run, tables)
    check_same_cohort(run, whole)
    with place_for_images(run, options.cache_dir) as folder:
        if options.bucket is None:
            test = take_published(run, whole)
        else:
            source = open_source(options.bucket, options.prefix, options.endpoint_url, streams=STREAMS, layout=options)
            test = read_anew(run, tables, classifier, source, folder, options.device)
        look = begin_look(run, whole, now=now or datetime.now(UTC))
        raw = test.predict()
    eyes = test.cohort.table.set_index("volume")["eye"].loc[raw["volume"].unit].to_numpy(str)
    predicted = PredictedSplit(
        raw,
        {**test.known, **predict_others(test.cohort)},
        lambda chosen: judged_of(
            aggregate_levels(rows_of(raw["volume"], chosen), eyes[chosen], judged=judged_of(raw).level)
        ),
        failures=test.failures,
    )
    return finish_look(replace(look, cohort=test.cohort), predicted, options, tables, by="finetune evaluate")


@contextmanager
def place_for_images(run: Run, cache_dir: Path | None) -> Iterator[Path]:
    """Give the folder of preprocessed volumes; without a cache_dir it lies beside the run and goes again."""
    if cache_dir is not None:
        yield cache_dir
        return
    runs = run.folder.resolve().parent
    with ExitStack() as held:
        try:
            folder = held.enter_context(place_aside(runs / "finetune-evaluate"))
        except OSError as error:
            raise RunFolderError(f"{runs}: expected a folder that can be written, got: {error.strerror}") from error
        yield folder


def read_anew(
    run: Run, tables: CohortTables, classifier: Classifier, source: Source, folder: Path, device: str
) -> OpenedTest:
    """Read the volumes of test, and put the model on the device; they are predicted as val is while training."""
    config, size = load_config(run.folder / RECIPE), classifier.image_size
    images = ImageCache(folder, image_recipe(size), config.cache)
    found = read_test(run, tables, source, new_loader(source, Recipe(PRESET, size), StageClock()), images)
    forward_size = config.micro_batch_size or config.batch_size
    backend = open_trainer(device, bf16=config.precision == "bf16", forward_size=forward_size)
    model, classes = place_model(classifier.model, backend), len(classifier.classes)
    trainer = Trainer(model, config, classes, 0, backend, OneProcess(), BestWeights(), lambda _: None)
    nothing = np.empty((len(found.cohort.table), 0), np.float32)
    table = table_of(found.cohort, nothing, (), EmbeddingSpace.from_dict(run.record.asked.embedding_space)).only(TEST)
    group = groups_of(classifier.standardiser, table.protocol)
    feed = feed_volumes(VolumeDataset(table, images, group, np.ones(len(table.y)), classes), config, backend)
    return OpenedTest(found.cohort, found.failures, lambda: predict(trainer, feed))


def take_published(run: Run, whole: Cohort) -> OpenedTest:
    """Take what the last look predicted. Raises: UsageError where there was none."""
    of_test = run.predictions[run.predictions["split"] == TEST]
    if of_test.empty:
        raise UsageError(
            f"--bucket is missing: nobody has predicted the test split of run {run.record.id} yet; say where the "
            "volumes are"
        )
    there = [level for level in LEVELS if (of_test["level"] == level).any()]
    raw = {level: pick_predictions(of_test, model=MODEL_NAME, level=level, split=TEST) for level in there}
    names = set(of_test["model"]) - {MODEL_NAME}
    known = {name: pick_predictions(of_test, model=name, level=there[-1], split=TEST) for name in names}
    kept = ((whole.table["split"] != TEST) | whole.table["volume"].isin(raw["volume"].unit)).to_numpy()
    table = whole.table[kept].reset_index(drop=True)
    cohort = replace(whole, table=table, position=whole.position[kept], brightness=None)  # that of test is not kept
    return OpenedTest(cohort, run.record.evaluations[-1].get("failures", {}), lambda: raw, known)


def predict_others(cohort: Cohort) -> dict[str, Predictions]:
    """Predict the test split by every baseline that the cohort allows."""
    fitted_on, judged = (describe_units(cohort, split) for split in ("train", TEST))
    names, _ = choose_baselines(cohort.task, fitted_on, judged)
    return predict_baselines(cohort.task, fitted_on, judged, split=TEST, names=names)
