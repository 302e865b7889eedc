"""A finished fine-tuned model to ask: logits of preprocessed volumes, and its parts for explanations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from classify.features.standardise import Standardiser
from extract.encoder.encoder import Encoder
from finetune.model.blocks import blocks_of
from finetune.model.network import VolumeClassifier, groups_of


@dataclass(frozen=True)
class Classifier:
    """Encoder and head of one run. model: frozen, in eval mode; encoder: the same weights, as the house names them.

    The preprocessing is that of ``finetune.options.PRESET`` at ``image_size`` (voxels D, H, W).
    """

    model: VolumeClassifier
    encoder: Encoder
    standardiser: Standardiser
    classes: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int, int]:
        """Give the size of a preprocessed volume."""
        return self.encoder.architecture.image_size

    @property
    def token_grid(self) -> tuple[int, int, int]:
        """Give the grid of the tokens of one volume."""
        return self.encoder.architecture.grid

    @property
    def blocks(self) -> list[nn.Module]:
        """Give the transformer blocks, from the first."""
        return blocks_of(self.model.encoder)

    def logits(self, volumes: Float[Tensor, "b 1 D H W"], protocols: Sequence[str]) -> Float[Tensor, "b k"]:
        """Classify preprocessed volumes; protocols: of each volume, for the standardisation within protocol.

        Gradients flow to whatever requires them: to ``volumes``, or to tokens that a hook of a block detached.
        """
        group = torch.from_numpy(groups_of(self.standardiser, np.array(protocols)))
        given: Tensor = self.model(volumes, group.to(volumes.device))
        return given
