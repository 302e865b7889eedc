"""What is trained: encoder, mean over tokens, standardisation learned on train, and one linear layer."""

from collections.abc import Callable
from copy import deepcopy
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor, nn

from classify.features import FeatureTable
from classify.standardise import Standardiser
from extract.device.backend import Backend
from extract.encoder.architecture import LAST
from extract.encoder.encoder import Encoder
from finetune.images import ImageCache

LogitsOf = Callable[[Int64[np.ndarray, " b"]], Float[Tensor, "b k"]]
"""From rows of a table to logits."""

HEAD_STD = 0.01
"""Of the head's first weights: small, so that the first predictions are nearly equal for all classes."""


class VolumeClassifier(nn.Module):
    """From preprocessed volumes to logits; the standardisation by protocol is that of the probes, and never learns.

    It is fitted once, on vectors of the starting encoder, so that the head begins as a linear probe does.
    """

    def __init__(self, encoder: Encoder, standardiser: Standardiser, classes: int, seed: int) -> None:
        super().__init__()
        self.encoder = deepcopy(encoder.module)  # the caller's stays frozen
        width = encoder.architecture.width
        self.register_buffer("mean", torch.from_numpy(standardiser.mean.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(standardiser.scale.astype(np.float32)))
        drawn = np.random.default_rng([seed, 0]).normal(0.0, HEAD_STD, (classes, width))
        self.head = nn.Linear(width, classes)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(drawn))
            self.head.bias.zero_()

    def forward(self, volumes: Float[Tensor, "b 1 D H W"], group: Shaped[Tensor, " b"]) -> Float[Tensor, "b k"]:
        """Classify volumes; group is the row of the standardisation that a volume's protocol uses."""
        pooled = self.encoder(volumes)[LAST].mean(1)
        mean, scale = cast(Tensor, self.mean), cast(Tensor, self.scale)
        return self.classify((pooled - mean[group]) / scale[group])

    def classify(self, standardised: Float[Tensor, "b C"]) -> Float[Tensor, "b k"]:
        """Classify pooled vectors that are standardised already."""
        logits: Tensor = self.head(standardised)
        return logits


def logits_of_vectors(model: VolumeClassifier, backend: Backend, table: FeatureTable) -> LogitsOf:
    """Classify rows by their stored vectors: valid while the encoder is the starting one, and free of its cost."""
    x = backend.place(table.x)
    return lambda rows: model.classify(x[torch.from_numpy(rows).to(x.device)])


def logits_of_images(
    model: VolumeClassifier, backend: Backend, table: FeatureTable, images: ImageCache, standardiser: Standardiser
) -> LogitsOf:
    """Classify rows end to end, from their preprocessed volumes."""
    group = groups_of(standardiser, table.protocol)

    def logits(rows: Int64[np.ndarray, " b"]) -> Float[Tensor, "b k"]:
        volumes = backend.place(images.stack(table.volume[rows].tolist()))
        result: Tensor = model(volumes, torch.from_numpy(group[rows]).to(volumes.device))
        return result

    return logits


def groups_of(standardiser: Standardiser, protocol: Shaped[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Give the row of the standardiser that each protocol uses: 0, of all volumes, where it has none of its own."""
    number_of = {name: number for number, name in enumerate(standardiser.protocols, start=1)}
    return np.array([number_of.get(name, 0) for name in protocol.tolist()], dtype=np.int64)


def host_weights(module: nn.Module) -> dict[str, Float32[Tensor, "..."]]:
    """Copy a module's weights to the CPU."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
