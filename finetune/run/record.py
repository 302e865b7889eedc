"""The words of a fine-tuned run's record: from what, by which recipe, and how the weights were chosen."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from classify.run.record import Asked, FeaturesSeen, Provenance
from classify.run.stopwatch import Stopwatch
from embeddings_store.space import EmbeddingSpace
from embeddings_store.terminal.provenance import code_commit, package_versions
from extract.device.backend import Backend
from extract.doctor.weights import find_source
from extract.encoder.encoder import Encoder
from finetune.data.inputs import Inputs
from finetune.options import FinetuneOptions
from finetune.training.epochs import METRIC, Epoch, compare_stages

PACKAGES = ("octprobe", "torch", "numpy", "pandas", "scikit-learn", "pydicom", "safetensors")
OPTIMISTIC = "val chose the best epoch, so its numbers are optimistic; only a split that chose nothing can judge it"


def describe_making(
    options: FinetuneOptions, now: datetime, clock: Stopwatch, models: dict[str, dict[str, str]]
) -> Provenance:
    """Say when and by what the run was made."""
    seeds = dict.fromkeys(("head", "order", "augmentation", "bootstrap"), options.seed)
    versions = package_versions(PACKAGES) | {"commit": code_commit()}
    return Provenance(
        now.isoformat(timespec="seconds"), list(options.command), "", seeds, versions, clock.seconds(), models
    )


def describe_question(options: FinetuneOptions, inputs: Inputs, space: EmbeddingSpace, started: Encoder) -> Asked:
    """Say what was asked of which volumes; space is the starting encoder's."""
    task = inputs.cohort.task
    return Asked(
        task.name,
        list(task.classes),
        space.id,
        inputs.cohort.phantom,
        task.to_dict(),
        space.to_dict(),
        find_source(started, options.choice).to_record(),
        {
            "number": "none: volumes of the bucket" if options.needs_volumes else "stored vectors",
            "rows": inputs.rows,
            "note": "volumes of test are counted, and were not opened"
            if options.needs_volumes
            else "no volume was read: the stage of the head needs the stored vectors alone",
        },
    )


def describe_features(inputs: Inputs) -> FeaturesSeen:
    """Say what the head saw, and how scans became participants."""
    return {
        "layer": "last",
        "pools": ["mean"],
        "aggregation": "mean of logits: volume, eye, participant",
        "standardise": "within protocol, fitted on train with the starting encoder",
        "dimensions": inputs.features.x.shape[1],
    }


def describe_training(
    options: FinetuneOptions,
    started: Encoder,
    tuned: Encoder,
    backend: Backend,
    processes: int,
    history: Sequence[Epoch],
    best: Epoch,
) -> dict[str, Any]:
    """Say which stages ran, from which encoder to which, by which recipe, and how the weights were chosen."""
    return {
        "stages": list(options.stages),
        "encoder": {"started_from": started.source, "weights_sha256": tuned.weights_sha256},
        "device": backend.name,
        "processes": processes,
        "compilations": backend.compilations(),
        "compile": options.compiled,
        "recipe": options.recipe.model_dump(),
        "selection": {"metric": METRIC, "level": "participant", "split": "val", "best": asdict(best)},
        "stages_compared": compare_stages(history),
        "caution": OPTIMISTIC,
        "history": [asdict(epoch) for epoch in history],
    }
