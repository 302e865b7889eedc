"""What is trained: encoder, pooling over tokens, standardisation learned on train, and a head."""

from collections.abc import Callable
from copy import deepcopy
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from classify.features.standardise import Standardiser
from extract.encoder.architecture import LAST
from extract.encoder.encoder import Encoder
from finetune.model.heads import BatchNorm, new_head, new_pool
from finetune.recipe.config import HeadConfig, LinearConfig

MODEL_NAME = "finetune"
"""What runs call a fine-tuned model."""

VOLUMES, TOKENS, VECTORS = "volumes", "tokens", "vectors"
"""Where the forward pass may start; tokens are those after the final norm."""


class VolumeClassifier(nn.Module):
    """From preprocessed volumes to logits; the standardisation by protocol is that of the probes, and never learns.

    It is fitted once, on vectors of the starting encoder, so that the head begins as a linear probe does. bf16: the
    encoder's arithmetic only; weights, pooling and head stay float32.
    """

    def __init__(
        self,
        encoder: Encoder,
        standardiser: Standardiser,
        classes: int,
        seed: int,
        head: HeadConfig | None = None,
        *,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = deepcopy(encoder.module)  # the caller's stays frozen
        self.bf16 = bf16
        self.encode: Callable[[Tensor], dict[str, Tensor]] | None = None  # in place of encoder: what was compiled of it
        width = encoder.architecture.width
        self.register_buffer("mean", torch.from_numpy(standardiser.mean.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(standardiser.scale.astype(np.float32)))
        kind = head if head is not None else LinearConfig()
        self.pool = new_pool(kind, width)
        self.head = new_head(kind, width, classes, seed)

    def forward(
        self, inputs: Float[Tensor, "b ..."], group: Shaped[Tensor, " b"], start: str = VOLUMES
    ) -> Float[Tensor, "b k"]:
        """Classify volumes [b, 1, D, H, W], their tokens [b, N, C], or their standardised vectors [b, C].

        group is the row of the standardisation that a volume's protocol uses. Everything is called through here, so
        that what wraps the module for several processes sees it.
        """
        starts = {VOLUMES: self._classify_volumes, TOKENS: self._classify_tokens, VECTORS: self._classify_vectors}
        return starts[start](inputs, group)

    def _classify_volumes(
        self, volumes: Float[Tensor, "b 1 D H W"], group: Shaped[Tensor, " b"]
    ) -> Float[Tensor, "b k"]:
        with torch.autocast(volumes.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            tokens = (self.encode or self.encoder)(volumes)[LAST]
        return self._classify_tokens(tokens.float(), group)

    def _classify_tokens(self, tokens: Float[Tensor, "b N C"], group: Shaped[Tensor, " b"]) -> Float[Tensor, "b k"]:
        mean, scale = cast(Tensor, self.mean), cast(Tensor, self.scale)
        return self._classify_vectors((self.pool(tokens) - mean[group]) / scale[group], group)

    def _classify_vectors(self, standardised: Float[Tensor, "b C"], _: Shaped[Tensor, " b"]) -> Float[Tensor, "b k"]:
        logits: Tensor = self.head(standardised)
        return logits

    def set_training(self, *, statistics: bool) -> None:
        """Switch dropout and the like on. statistics: batch normalisation learns its means, else it uses them.

        Only the stage of the head lets it learn: later batches are small, and are split over processes and forwards.
        """
        self.train()
        if not statistics:
            for part in self.head.modules():
                if isinstance(part, BatchNorm):
                    part.eval()


def groups_of(standardiser: Standardiser, protocol: Shaped[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Give the row of the standardiser that each protocol uses: 0, of all volumes, where it has none of its own."""
    number_of = {name: number for number, name in enumerate(standardiser.protocols, start=1)}
    return np.array([number_of.get(name, 0) for name in protocol.tolist()], dtype=np.int64)


def host_weights(module: nn.Module) -> dict[str, Shaped[Tensor, "..."]]:
    """Copy a module's weights to the CPU, whole; of a sharded module all processes must ask."""
    return {name: whole(tensor).detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}


def whole(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Give a tensor as it is, or of one that is sharded (a DTensor) all of it; all processes must ask."""
    if isinstance(tensor, DTensor):
        gathered: Tensor = tensor.full_tensor()
        return gathered
    return tensor
