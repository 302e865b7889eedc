"""The best weights as files: an encoder that --checkpoint reads everywhere in the house, and its head."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from classify.standardise import Standardiser
from extract.encoder.encoder import Encoder, freeze
from extract.encoder.safetensors_file import export_safetensors
from finetune.model import VolumeClassifier, host_weights

ENCODER = "encoder.safetensors"
HEAD = "head.safetensors"


def save_model(
    model: VolumeClassifier, started: Encoder, standardiser: Standardiser, classes: Sequence[str], folder: Path
) -> Encoder:
    """Write encoder, head and standardisation; give the encoder as it is now, frozen.

    head.safetensors: weight [classes, C] and bias [classes], over standardised mean-pooled tokens of layer "last".
    """
    tuned = freeze(started.architecture, host_weights(model.encoder), f"fine-tuned from {started.source}", {})
    export_safetensors(tuned, folder / ENCODER)
    metadata = {"classes": json.dumps(list(classes)), "encoder_sha256": tuned.weights_sha256}
    save_file(host_weights(model.head), folder / HEAD, metadata=metadata)
    standardiser.save(folder)
    return tuned
