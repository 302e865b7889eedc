"""The words of a fine-tuned run's record: from what, by which recipe, and how the weights were chosen."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from classify.cohort.table import Cohort
from embeddings_store.provenance import code_commit, package_versions
from embeddings_store.space import EmbeddingSpace
from extract.device.backend import Backend
from extract.doctor.weights import find_source
from extract.encoder.encoder import Encoder
from finetune.data.inputs import Inputs
from finetune.model.network import MODEL_NAME
from finetune.options import FinetuneOptions
from finetune.training.epochs import METRIC, Epoch, compare_stages

PACKAGES = ("octprobe", "torch", "numpy", "pandas", "scikit-learn", "pydicom", "safetensors", "monai")
OPTIMISTIC = "val chose the best epoch, so its numbers are optimistic; only a split that chose nothing can judge it"


def describe_inputs(
    options: FinetuneOptions, inputs: Inputs, space: EmbeddingSpace, started: Encoder
) -> dict[str, Any]:
    """Give the fields of the run record that are known before anything is trained; space is the starting encoder's."""
    cohort: Cohort = inputs.cohort
    return {
        "command": list(options.command),
        "model": MODEL_NAME,
        "task": cohort.task.name,
        "task_definition": cohort.task.to_dict(),
        "classes": list(cohort.task.classes),
        "space": space.id,
        "embedding_space": space.to_dict(),
        "encoder_source": find_source(started, options.choice).to_record(),
        "snapshot": {
            "number": "none: volumes of the bucket" if options.needs_volumes else "stored vectors",
            "rows": inputs.rows,
            "note": "volumes of test are counted, and were not opened"
            if options.needs_volumes
            else "no volume was read: the stage of the head needs the stored vectors alone",
        },
        "cohort_sha256": cohort.sha256,
        "splits": cohort.sizes(),
        "features": {
            "layer": "last",
            "pools": ["mean"],
            "aggregation": "mean of logits: volume, eye, participant",
            "standardise": "within protocol, fitted on train with the starting encoder",
            "dimensions": inputs.features.x.shape[1],
        },
        "seeds": {"head": options.seed, "order": options.seed, "augmentation": options.seed, "bootstrap": options.seed},
        "class_weights": cohort.class_weights(balanced=options.recipe.class_weights),
        "flow": cohort.flow,
        "phantom": cohort.phantom,
        "versions": package_versions(PACKAGES) | {"commit": code_commit()},
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
        "recipe": options.recipe.model_dump(),
        "selection": {"metric": METRIC, "level": "participant", "split": "val", "best": asdict(best)},
        "stages_compared": compare_stages(history),
        "caution": OPTIMISTIC,
        "history": [asdict(epoch) for epoch in history],
    }
