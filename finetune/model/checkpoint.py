"""The best weights as files, and back: an encoder that --checkpoint reads everywhere in the house, and its head."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from classify.errors import RunFolderError
from classify.features.standardise import Standardiser
from classify.run.folder import Run
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder, freeze
from extract.encoder.safetensors_file import export_safetensors
from finetune.model.classifier import Classifier
from finetune.model.network import MODEL_NAME, VolumeClassifier, host_weights
from finetune.recipe.config import HeadConfig
from finetune.recipe.load import load_config

ENCODER = "encoder.safetensors"
HEAD = "head.safetensors"
RECIPE = "config.yaml"
POOL = "pool."


def save_model(
    model: VolumeClassifier,
    started: Encoder,
    standardiser: Standardiser,
    classes: Sequence[str],
    head: HeadConfig,
    folder: Path,
) -> Encoder:
    """Write encoder, head and standardisation; give the encoder as it is now, frozen.

    head.safetensors: the head over standardised pooled tokens of layer "last" (linear: weight [classes, C] and bias
    [classes]), and "pool." where the pooling learns; its metadata say classes and head.
    """
    tuned = freeze(started.architecture, host_weights(model.encoder), f"fine-tuned from {started.source}", {})
    export_safetensors(tuned, folder / ENCODER)
    parts = nn.ModuleDict({"pool": model.pool})
    metadata = {
        "classes": json.dumps(list(classes)),
        "encoder_sha256": tuned.weights_sha256,
        "head": head.model_dump_json(),
    }
    save_file(host_weights(model.head) | host_weights(parts), folder / HEAD, metadata=metadata)
    standardiser.save(folder)
    return tuned


def load_classifier(run: Run) -> Classifier:
    """Read the model that a run of ``finetune`` published: on the CPU, in eval mode, nothing requires gradients.

    Raises: RunFolderError (another kind of run, damaged files), CheckpointError.
    """
    record, folder = run.record, run.model_folder()
    if record.fitted.model != MODEL_NAME:
        raise RunFolderError(f"run {record.id}: expected a run of finetune, got one of {record.fitted.model}")
    encoder, standardiser = load_checkpoint(folder / ENCODER), Standardiser.load(folder)
    config, classes = load_config(run.folder / RECIPE), tuple(record.asked.classes)
    model = VolumeClassifier(
        encoder, standardiser, len(classes), seed=0, head=config.head, bf16=config.precision == "bf16"
    )
    _load_head(model, folder / HEAD, encoder, f"run {record.id}")
    return Classifier(model.eval().requires_grad_(requires_grad=False), encoder, standardiser, classes)


def _load_head(model: VolumeClassifier, path: Path, encoder: Encoder, name: str) -> None:
    """Fill head and pooling. Raises: RunFolderError where the file is damaged or belongs to another encoder."""
    try:
        with safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get("encoder_sha256")
        weights = load_file(path)
        model.pool.load_state_dict({key.removeprefix(POOL): w for key, w in weights.items() if key.startswith(POOL)})
        model.head.load_state_dict({key: w for key, w in weights.items() if not key.startswith(POOL)})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunFolderError(f"{name}: {HEAD} cannot be read ({type(error).__name__}); make the run again") from error
    if known != encoder.weights_sha256:
        raise RunFolderError(f"{name}: {HEAD} was trained on another encoder than {ENCODER}; make the run again")
