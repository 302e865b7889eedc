"""Multiple-instance learning over a participant's scans: gated attention says which scans count.

Ilse, Tomczak & Welling, ICML 2018, equations 8 and 9; every bag is a participant (or an eye) and its scans.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from sklearn.utils.validation import check_is_fitted, validate_data

from classify.heads.members import Units
from classify.heads.network import NetworkHead, mean_of_networks

BLOCK_BAGS = 256


@dataclass(frozen=True)
class MilNetwork:
    """Weights: hidden [d, width]; tanh, sigmoid [width, width/2]; score [width/2, 1]; weight [k, width]; biases.

    A fresh score is 0: the head starts as one on the mean of the scans.
    """

    features: int
    width: int
    classes: int

    @property
    def dropped(self) -> int:
        """Dropout acts on the vector of the bag."""
        return self.width

    def start(self, rng: Any) -> dict[str, Any]:
        """Draw the weights of one member."""
        import torch

        gate = self.width // 2
        return {
            "hidden": torch.randn(self.features, self.width, generator=rng) / self.features**0.5,
            "hidden_bias": torch.zeros(self.width),
            "tanh": torch.randn(self.width, gate, generator=rng) / self.width**0.5,
            "sigmoid": torch.randn(self.width, gate, generator=rng) / self.width**0.5,
            "score": torch.zeros(gate, 1),
            "weight": 0.5 * torch.randn(self.classes, self.width, generator=rng) / self.width**0.5,
            "bias": torch.zeros(self.classes),
        }

    def attend(self, weights: Mapping[str, Any], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
        """Give the hidden vectors of scans [M, B, S, width] and how much each counts [M, B, S], 1 over a bag."""
        scans, real = inputs
        bags, longest, _ = scans.shape
        hidden = (scans.flatten(0, 1) @ weights["hidden"] + weights["hidden_bias"][:, None]).relu()
        gated = (hidden @ weights["tanh"]).tanh() * (hidden @ weights["sigmoid"]).sigmoid()
        score = (gated @ weights["score"]).unflatten(1, (bags, longest)).squeeze(-1)
        return hidden.unflatten(1, (bags, longest)), score.masked_fill(~real, float("-inf")).softmax(dim=-1)

    def logits(self, weights: Mapping[str, Any], inputs: tuple[Any, ...], keep: Any) -> Any:
        """Classify bags, scans [B, S, d] and which of them are real [B, S]: logits [M, B, k]."""
        hidden, share = self.attend(weights, inputs)
        vector = (share.unsqueeze(-2) @ hidden).squeeze(-2)
        shown = vector if keep is None else vector * keep.mT
        return shown @ weights["weight"].transpose(1, 2) + weights["bias"][:, None]


class MilHead(NetworkHead):
    """Rows are scans; groups name the bag of each (fit: the participant). Without groups each row is its own bag.

    width: length of a scan's hidden vector. Other parameters: see NetworkHead. predict_proba takes every row as a bag
    of one.
    """

    name = "mil"
    pools_scans = True

    def __init__(
        self,
        *,
        width: int = 64,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        dropout: float = 0.5,
        batch_size: int | None = None,
        max_epochs: int = 100,
        patience: int | None = None,
        hold_out: int | None = None,
        networks: int | None = None,
        device: str = "cpu",
        random_state: int | None = 0,
    ) -> None:
        self.width = width
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.hold_out = hold_out
        self.networks = networks
        self.device = device
        self.random_state = random_state

    def predict_bags(
        self, X: Any, groups: Shaped[np.ndarray, " n"]
    ) -> tuple[Shaped[np.ndarray, " bags"], Float64[np.ndarray, "bags k"]]:
        """Give the names of the groups, sorted, and the probability of each class of classes_ for the rows of each."""
        rows = self._rows(X)
        names, bag = np.unique(groups, return_inverse=True)
        logits, _ = self._forward(rows, _places(bag), self._exact_weights())
        return names, mean_of_networks(logits)

    def scan_weights(self, X: Any, groups: Shaped[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Give how much each row counts in its bag; 1 over a bag."""
        rows = self._rows(X)
        places = _places(np.unique(groups, return_inverse=True)[1])
        _, share = self._forward(rows, places, self._exact_weights())
        out = np.empty(len(rows))
        out[places[places >= 0]] = share[places >= 0]
        return out

    def _rows(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "classes_")
        return np.asarray(validate_data(self, X, reset=False, dtype=[np.float64, np.float32]))

    def _network(self) -> MilNetwork:
        return MilNetwork(self.n_features_in_, self.width, len(self.classes_))

    def _units(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> Units:
        places = _places(people)
        code = codes[places[:, 0]]
        if (codes != code[people]).any():
            raise ValueError("MilHead: every row of a group must have the label of the group, got a mixed group")
        scans = np.asarray(rows, dtype=np.float32)
        heaviness, owner = np.bincount(people, weights), np.arange(len(code))
        return Units(lambda bags: _take(scans, places[bags.numpy()]), code, heaviness, owner, BLOCK_BAGS)

    def _logits(self, rows: np.ndarray, weights: Mapping[str, Any]) -> np.ndarray:
        return self._forward(rows, np.arange(len(rows))[:, None], weights)[0]

    def _forward(
        self, rows: np.ndarray, places: Int64[np.ndarray, "bags scans"], weights: Mapping[str, Any]
    ) -> tuple[Float64[np.ndarray, "networks bags k"], Float64[np.ndarray, "bags scans"]]:
        import torch

        network = self._network()
        logits, shares = [], []
        with torch.inference_mode():
            for first in range(0, len(places), BLOCK_BAGS):
                block = _take(np.asarray(rows, np.float64), places[first : first + BLOCK_BAGS])
                logits.append(network.logits(weights, block, None).numpy())
                share = network.attend(weights, block)[1].mean(dim=0).numpy()
                shares.append(np.pad(share, ((0, 0), (0, places.shape[1] - share.shape[1]))))
        return np.concatenate(logits, axis=1), np.concatenate(shares)


def _places(bag: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, "bags scans"]:
    """Give the rows of each bag, -1 where a bag has fewer than the longest."""
    sizes = np.bincount(bag)
    order = np.argsort(bag, kind="stable")
    places = np.full((len(sizes), int(sizes.max())), -1, dtype=np.int64)
    within = np.arange(len(bag)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    places[bag[order], within] = order
    return places


def _take(rows: np.ndarray, places: Int64[np.ndarray, "bags scans"]) -> tuple[Any, Any]:
    """Give the scans of some bags, side by side, and which of them are real."""
    import torch

    real = places >= 0
    shown = places[:, : int(real.sum(axis=1).max())]
    return torch.from_numpy(rows[shown]), torch.from_numpy(real[:, : shown.shape[1]])
