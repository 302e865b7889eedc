"""The best weights as files: an encoder that --checkpoint reads everywhere in the house, and its head."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from classify.standardise import Standardiser
from extract.encoder.encoder import Encoder, freeze
from extract.encoder.safetensors_file import export_safetensors
from finetune.config import HeadConfig
from finetune.model import VolumeClassifier, host_weights

ENCODER = "encoder.safetensors"
HEAD = "head.safetensors"


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
