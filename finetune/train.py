"""The verb ``finetune``: train encoder and head on the volumes of a bucket, in stages. Reads from top to bottom."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from classify.baselines import predict_baselines
from classify.cohort.participants import read_participants
from classify.cohort.table import Cohort
from classify.cohort.tasks import find_task
from classify.features import FeatureTable, make_features
from classify.judging.judge import judge
from classify.predictions import stack_predictions
from classify.run import MODEL, RunRecord, new_run_id, run_folder, save_run
from classify.standardise import Standardiser
from classify.stopwatch import Stopwatch
from embeddings_store.errors import UsageError
from embeddings_store.provenance import code_commit, package_versions
from embeddings_store.space import EmbeddingSpace
from extract.bucket.listing import list_volumes
from extract.bucket.source import open_source
from extract.device.backend import Backend
from extract.device.select import open_device
from extract.encode import BatchEncoder, build_space
from extract.encoder.encoder import Encoder
from extract.encoder.open import open_encoder
from extract.errors import DeviceError
from extract.load import new_loader
from extract.options import EncoderChoice
from extract.preset import PRESETS
from extract.progress import show_progress
from extract.stages import StageClock
from finetune.checkpoint import save_model
from finetune.config import STAGES, FinetuneConfig, save_config
from finetune.data import STREAMS, ReadVolumes, is_open, make_cohort, open_splits, read_volumes
from finetune.images import ImageCache
from finetune.loop import METRIC, MODEL_NAME, BestWeights, Epoch, Side, predict, train_stage
from finetune.model import VolumeClassifier, logits_of_images, logits_of_vectors
from finetune.stages import set_trainable

PRESET = PRESETS["pretrain"]
LAYERS, POOLS = ("last",), ("mean",)
DEVICES = ("cpu", "cuda")
PACKAGES = ("octprobe", "torch", "numpy", "pandas", "scikit-learn", "pydicom", "safetensors")
IMAGES = "images"
OPTIMISTIC = "val chose the best epoch, so its numbers are optimistic; only a split that chose nothing can judge it"


@dataclass(frozen=True)
class FinetuneOptions:
    """What the command line asked for. cache_dir None: preprocessed volumes are kept for this run only."""

    choice: EncoderChoice
    bucket: str
    participants: Path
    config: FinetuneConfig
    prefix: str = ""
    endpoint_url: str | None = None
    task: str = "four-class"
    stages: tuple[str, ...] = STAGES
    device: str = "auto"
    limit: int | None = None
    seed: int = 0
    replicates: int = 2000
    runs: Path = Path("runs")
    cache_dir: Path | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finetuned:
    """A published run: its record and folder, and how many volumes of train and val failed, by error class."""

    record: RunRecord
    folder: Path
    failures: dict[str, int]


def finetune(options: FinetuneOptions, *, now: datetime, tell: Callable[[str], None]) -> Finetuned:
    """Train in stages, keep the weights that did best on val, judge them beside the baselines, publish the run.

    The volumes of test are neither read nor predicted. tell: hears of every epoch.
    Raises: UsageError, RunError (CohortError, LeakError, BucketError, CheckpointError, DeviceError).
    """
    clock, stage_clock = Stopwatch(), StageClock()
    task = find_task(options.task)
    people_table = read_participants(options.participants)
    encoder = open_encoder(**options.choice.arguments())
    require_blocks(options, encoder)
    backend = open_trainer(options.device)
    space = build_space(
        encoder, PRESET.to_dict(), layers=LAYERS, pools=POOLS, token_grid=None, precision=backend.precision
    )
    source = open_source(options.bucket, options.prefix, options.endpoint_url, streams=STREAMS)
    refs = list_volumes(source).refs[: options.limit]

    run_id = new_run_id(now, MODEL_NAME, options.task)
    with run_folder(options.runs, run_id) as aside:
        images = ImageCache(options.cache_dir or aside / IMAGES, image_recipe(space))
        load = new_loader(source, PRESET, encoder.architecture.image_size, stage_clock)
        splits = open_splits(people_table, task)
        with show_progress(sum(is_open(ref, splits) for ref in refs)) as progress:
            read = read_volumes(
                refs, lambda ref: is_open(ref, splits), load, images, BatchEncoder(encoder, backend),
                lambda failed: progress.advance(failed=failed),
            )  # fmt: skip
        cohort = make_cohort(read, people_table, task)
        clock.lap("read")

        features = make_features(cohort, read.vectors, space, layer="last", pools=POOLS)
        standardiser = Standardiser.fit(features.only("train").x, features.only("train").protocol)
        standard = features.standardised(standardiser)
        model = backend.prepare(VolumeClassifier(encoder, standardiser, len(task.classes), options.seed))
        history, best = train_stages(model, options, backend, standard, images, standardiser, tell)
        clock.lap("fit")

        val = standard.only("val")
        side = Side(val, logits_of_images(model, backend, val, images, standardiser))
        levels = predict(side, len(task.classes), options.config.batch_size)
        others = predict_baselines(cohort.people("train"), cohort.people("val"), classes=len(task.classes), split="val")
        judged = judge(levels, others, task.classes, replicates=options.replicates, seed=options.seed)
        clock.lap("evaluate")

        tuned = save_model(model, encoder, standardiser, task.classes, aside / MODEL)
        save_config(options.config, aside / "config.yaml")
        shutil.rmtree(aside / IMAGES, ignore_errors=True)
        record = RunRecord(
            id=run_id,
            created=now.isoformat(timespec="seconds"),
            **describe_inputs(options, cohort, features, read, space),
            parameters=describe_training(options, encoder, tuned, backend, history, best),
            search=None,
            **vars(judged),
            seconds=clock.seconds(),
        )
        folder = save_run(aside, record, stack_predictions([*levels.values(), *others.values()]), cohort.table)
    return Finetuned(record, folder, dict(Counter(failure.failure.error for failure in read.failures)))


def require_blocks(options: FinetuneOptions, encoder: Encoder) -> None:
    """Refuse to train more last blocks than there are, before anything is read."""
    depth, blocks = encoder.architecture.depth, options.config.last.blocks
    if "last" in options.stages and blocks > depth:
        raise UsageError(f"last.blocks: expected 1 to the encoder's {depth} blocks, got {blocks}")


def open_trainer(name: str) -> Backend:
    """Open a device that training was made for. Raises DeviceError."""
    backend = open_device(name)
    if backend.name not in DEVICES:
        raise DeviceError(f"device {backend.name}: fine-tuning runs on {' or '.join(DEVICES)}; choose one by --device")
    return backend


def image_recipe(space: EmbeddingSpace) -> str:
    """Name everything besides the object that decides the voxels of a kept volume."""
    versions = package_versions(("octprobe",))
    return json.dumps([space.to_dict()["preset"], space.image_size, versions.get("octprobe")], sort_keys=True)


def train_stages(
    model: VolumeClassifier,
    options: FinetuneOptions,
    backend: Backend,
    standard: FeatureTable,
    images: ImageCache,
    standardiser: Standardiser,
    tell: Callable[[str], None],
) -> tuple[list[Epoch], Epoch]:
    """Run the stages in order, each from the best weights so far; the model ends with the best of all."""
    config, best = options.config, BestWeights()
    history: list[Epoch] = []
    tables = [standard.only("train"), standard.only("val")]
    for name in options.stages:
        best.restore(model)
        set_trainable(model.encoder, name, config.last.blocks)
        if name == "head":
            train, val = (Side(table, logits_of_vectors(model, backend, table)) for table in tables)
        else:
            train, val = (Side(t, logits_of_images(model, backend, t, images, standardiser)) for t in tables)
        history += train_stage(
            model, name, config.stage(name), train, val, classes=model.head.out_features,
            batch_size=config.batch_size, gradient_clip=config.gradient_clip,
            rng=np.random.default_rng([options.seed, 1 + STAGES.index(name)]), best=best, tell=tell,
        )  # fmt: skip
    best.restore(model)
    if best.epoch is None:
        raise UsageError("--stages: expected at least one stage, got none")
    return history, best.epoch


def describe_inputs(
    options: FinetuneOptions, cohort: Cohort, features: FeatureTable, read: ReadVolumes, space: EmbeddingSpace
) -> dict[str, Any]:
    """Give the fields of the run record that are known before anything is trained; space is the starting encoder's."""
    return {
        "command": list(options.command),
        "model": MODEL_NAME,
        "task": cohort.task.name,
        "classes": list(cohort.task.classes),
        "space": space.id,
        "embedding_space": space.to_dict(),
        "snapshot": {
            "number": "none: volumes of the bucket",
            "rows": len(read.lines),
            "note": "no store was read; volumes of test are counted, and were not opened",
        },
        "cohort_sha256": cohort.sha256,
        "splits": cohort.sizes(),
        "features": {
            "layer": "last",
            "pools": ["mean"],
            "aggregation": "mean of logits: volume, eye, participant",
            "standardise": "within protocol, fitted on train with the starting encoder",
            "dimensions": features.x.shape[1],
        },
        "seeds": {"head": options.seed, "order": options.seed, "bootstrap": options.seed},
        "flow": cohort.flow,
        "phantom": cohort.phantom,
        "versions": package_versions(PACKAGES) | {"commit": code_commit()},
    }


def describe_training(
    options: FinetuneOptions, started: Encoder, tuned: Encoder, backend: Backend, history: list[Epoch], best: Epoch
) -> dict[str, Any]:
    """Say which stages ran, from which encoder to which, by which recipe, and how the weights were chosen."""
    return {
        "stages": list(options.stages),
        "encoder": {"started_from": started.source, "weights_sha256": tuned.weights_sha256},
        "device": backend.name,
        "recipe": options.config.model_dump(),
        "selection": {"metric": METRIC, "level": "participant", "split": "val", "best": asdict(best)},
        "caution": OPTIMISTIC,
        "history": [asdict(epoch) for epoch in history],
    }
