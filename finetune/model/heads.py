"""Heads: how tokens are pooled, and how a standardised pooled vector becomes logits. All are drawn by NumPy."""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from embeddings_store.errors import UsageError
from finetune.recipe.config import AttentiveConfig, HeadConfig, MlpConfig

FIRST_STD = 0.01
"""Of a last layer's first weights: small, so that the first predictions are nearly equal for all classes."""


class MeanPool(nn.Module):
    """The mean over tokens, as the store's pooled vectors are made."""

    def forward(self, tokens: Float[Tensor, "b N C"]) -> Float[Tensor, "b C"]:
        """Pool."""
        return tokens.mean(1)


class AttentivePool(nn.Module):
    """One learned query a head; scores are scaled by sqrt(C / heads). With the query at 0, as it begins, the mean."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"head.heads: expected a number that divides the encoder's width {width}, got {heads}")
        self.query = nn.Parameter(torch.zeros(heads, width // heads))

    def forward(self, tokens: Float[Tensor, "b N C"]) -> Float[Tensor, "b C"]:
        """Pool each head's share of the channels by its own weights."""
        heads, size = self.query.shape
        parts = tokens.reshape(*tokens.shape[:2], heads, size)
        weight = ((parts * self.query).sum(-1) * size**-0.5).softmax(1)
        pooled: Tensor = (parts * weight[..., None]).sum(1).flatten(1)
        return pooled


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that uses its running statistics for a batch of one, which has no spread."""

    def forward(self, input: Float[Tensor, "b C"]) -> Float[Tensor, "b C"]:  # noqa: A002 - torch's name
        """Normalise."""
        if self.training and len(input) > 1:
            return super().forward(input)
        # Written out: torch_xla has no backward pass of functional.batch_norm by running statistics.
        mean, var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        return (input - mean) * (torch.rsqrt(var + self.eps) * self.weight) + self.bias


class Ordinal(nn.Module):
    """Cumulative logits: P(label > k) = sigmoid(score - threshold_k), thresholds ascending (McCullagh 1980)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        self.first = nn.Parameter(torch.zeros(1))
        self.steps = nn.Parameter(torch.zeros(classes - 2))

    def forward(self, standardised: Float[Tensor, "b C"]) -> Float[Tensor, "b k"]:
        """Give log-probabilities, which are logits whose softmax is themselves."""
        above = self.score(standardised) - torch.cat([self.first, functional.softplus(self.steps)]).cumsum(0)
        upper = functional.logsigmoid(above)
        lower = functional.logsigmoid(-above)
        # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)), for neighbours a > b
        between = upper[:, :-1] + lower[:, 1:] + torch.log1p(-torch.exp(above[:, 1:] - above[:, :-1]))
        return torch.cat([lower[:, :1], between, upper[:, -1:]], dim=1)


def new_pool(config: HeadConfig, width: int) -> nn.Module:
    """Make the pooling of a head."""
    return AttentivePool(width, config.heads) if isinstance(config, AttentiveConfig) else MeanPool()


def new_head(config: HeadConfig, width: int, classes: int, seed: int) -> nn.Module:
    """Make a head from standardised vectors of this width to logits; the same seed gives the same weights."""
    rng = np.random.default_rng([seed, 0])
    makers: dict[str, Callable[[], nn.Module]] = {
        "linear": lambda: nn.Linear(width, classes),
        "attentive": lambda: nn.Linear(width, classes),
        "ordinal": lambda: Ordinal(width, classes),
        "mlp": lambda: _new_mlp(cast(MlpConfig, config), width, classes),
    }
    head = makers[config.kind]()
    linears = [part for part in head.modules() if isinstance(part, nn.Linear)]
    with torch.no_grad():
        for linear in linears:
            spread = FIRST_STD if linear is linears[-1] else (2 / linear.in_features) ** 0.5
            linear.weight.copy_(torch.from_numpy(rng.normal(0.0, spread, tuple(linear.weight.shape))))
            if linear.bias is not None:
                linear.bias.zero_()
    return head


def _new_mlp(config: MlpConfig, width: int, classes: int) -> nn.Module:
    first, second = config.width, config.width // 2
    return nn.Sequential(
        nn.Linear(width, first), BatchNorm(first), nn.ReLU(), nn.Dropout(config.dropout),
        nn.Linear(first, second), BatchNorm(second), nn.ReLU(), nn.Dropout(config.dropout),
        nn.Linear(second, classes),
    )  # fmt: skip
