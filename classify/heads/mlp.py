"""A small multilayer perceptron with batch normalisation and dropout, in torch; by default C-64-32-n."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.heads.members import Units
from classify.heads.network import MODEL, NetworkHead

AT_ONCE = 4096
BLOCK = 4
"""Numbers of a hidden layer's parts in the names of its weights: linear, normalisation, rectifier, dropout."""

NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class MlpNetwork:
    """Weights, of hidden layer l: 4l.weight [out, in]; 4l+1.weight, .bias [out]; of the last one weight and bias.

    A hidden layer has no bias: normalisation would take it away. Where 4l+1.running_mean and .running_var are among the
    weights a layer is normalised by them, else by the units that are seen together.
    """

    sizes: tuple[int, ...]
    classes: int

    @property
    def dropped(self) -> int:
        """Dropout acts on what each hidden layer gives."""
        return sum(self.sizes[1:])

    def start(self, rng: Any) -> dict[str, Any]:
        """Draw the weights of one member, as torch draws those of a linear layer."""
        import torch

        def draw(*shape: int, fan_in: int) -> Any:
            return (2 * torch.rand(*shape, generator=rng) - 1) / fan_in**0.5

        weights = {}
        for number, (wide, narrow) in enumerate(pairwise(self.sizes)):
            weights[f"{BLOCK * number}.weight"] = draw(narrow, wide, fan_in=wide)
            weights[f"{BLOCK * number + 1}.weight"] = torch.ones(narrow)
            weights[f"{BLOCK * number + 1}.bias"] = torch.zeros(narrow)
        last = BLOCK * (len(self.sizes) - 1)
        weights[f"{last}.weight"] = draw(self.classes, self.sizes[-1], fan_in=self.sizes[-1])
        weights[f"{last}.bias"] = draw(self.classes, fan_in=self.sizes[-1])
        return weights

    def hidden(self, weights: Mapping[str, Any], rows: Any, layers: int, keep: Any = None) -> Any:
        """Give what the first layers make of rows [B, d]: [M, out, B], or [d, B] of none."""
        import torch

        seen, first = rows.mT, 0
        for number, width in enumerate(self.sizes[1 : layers + 1]):
            norm = f"{BLOCK * number + 1}."
            summed = weights[f"{BLOCK * number}.weight"] @ seen
            mean, spread = (weights.get(norm + name) for name in ("running_mean", "running_var"))
            normed = torch.batch_norm(
                summed.reshape(1, -1, summed.shape[2]), weights[norm + "weight"].flatten(),
                weights[norm + "bias"].flatten(), None if mean is None else mean.flatten(),
                None if spread is None else spread.flatten(), mean is None, 0.0, NORM_EPSILON, False,
            )  # fmt: skip
            seen = normed.reshape(summed.shape).relu()
            if keep is not None:
                seen = seen * keep[:, first : first + width]
            first += width
        return seen

    def logits(self, weights: Mapping[str, Any], inputs: tuple[Any, ...], keep: Any) -> Any:
        """Classify rows [B, d]: logits [M, B, k]."""
        (rows,) = inputs
        last = BLOCK * (len(self.sizes) - 1)
        seen = self.hidden(weights, rows, len(self.sizes) - 1, keep)
        return (weights[f"{last}.weight"] @ seen).mT + weights[f"{last}.bias"][:, None]


class MlpHead(NetworkHead):
    """Hidden layers that halve from ``width``.

    depth: hidden layers; 0 leaves the linear one. Other parameters: see NetworkHead.
    """

    name = "mlp"

    def __init__(
        self,
        *,
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.6,
        learning_rate: float = 1e-2,
        weight_decay: float = 1e-2,
        batch_size: int | None = None,
        max_epochs: int = 100,
        patience: int | None = None,
        hold_out: int | None = None,
        networks: int | None = None,
        device: str = "cpu",
        random_state: int | None = 0,
    ) -> None:
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.hold_out = hold_out
        self.networks = networks
        self.device = device
        self.random_state = random_state

    def _network(self) -> MlpNetwork:
        hidden = (max(1, self.width // 2**level) for level in range(self.depth))
        return MlpNetwork((self.n_features_in_, *hidden), len(self.classes_))

    def _units(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> Units:
        import torch

        x = torch.from_numpy(np.require(rows, np.float32, ["C", "W"]))
        return Units(lambda positions: (x.index_select(0, positions),), codes, weights, people, AT_ONCE)

    def _settle(self, weights: dict[str, Any], units: Units) -> dict[str, Any]:
        """Add the mean and variance of each hidden layer over all units, one layer after the other."""
        import torch

        network, exact = self._network(), {name: value.double() for name, value in weights.items()}
        places = torch.split(torch.arange(len(units.codes)), AT_ONCE)
        for number in range(self.depth):
            sums = [
                (exact[f"{BLOCK * number}.weight"] @ network.hidden(exact, units.take(some)[0].double(), number))
                for some in places
            ]
            spread, mean = torch.var_mean(torch.cat(sums, dim=2), dim=2)
            exact |= {f"{BLOCK * number + 1}.running_mean": mean, f"{BLOCK * number + 1}.running_var": spread}
        return {name: value.float() for name, value in exact.items()}

    def _logits(self, rows: np.ndarray, weights: Mapping[str, Any]) -> np.ndarray:
        import torch

        network = self._network()
        with torch.inference_mode():
            parts = torch.split(torch.from_numpy(np.asarray(rows, np.float64)), AT_ONCE)
            return np.concatenate([network.logits(weights, (part,), None).numpy() for part in parts], axis=1)

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        named = {
            f"{number}/{name}": one.contiguous()
            for name, value in self.weights_.items()
            for number, one in enumerate(value)
        }
        save_file(named, folder / MODEL)

    def _read(self, folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        found = load_file(folder / MODEL)
        if not any("/" in name for name in found):  # a run of before: one network
            found = {f"0/{name}": value for name, value in found.items()}
        networks = 1 + max(int(name.split("/")[0]) for name in found)
        names = sorted({name.split("/")[1] for name in found if not name.endswith("num_batches_tracked")})
        weights = {name: torch.stack([found[f"{one}/{name}"] for one in range(networks)]) for name in names}
        for number in range(self.depth):  # a run of before has biases that normalisation takes away
            bias = weights.pop(f"{BLOCK * number}.bias", None)
            if bias is not None:
                weights[f"{BLOCK * number + 1}.running_mean"] -= bias
        self.weights_ = weights
