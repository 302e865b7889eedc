"""Attentive probe on patch tokens: a learned query looks at the tokens of a volume, then LayerNorm and a linear layer.

As V-JEPA probes frozen video features (Bardes et al. 2024, arXiv:2404.08471, section 4; V-JEPA 2, arXiv:2506.09985).
There is one query, so the key projection joins it (q.Wx = (W'q).x) and the value projection follows the weighted sum
(the sum of a.Vx is V of the sum of a.x): the same function, and a token is only ever multiplied once by each query.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from sklearn.utils.validation import check_is_fitted, validate_data

from classify.heads.members import Units
from classify.heads.network import NetworkHead
from classify.heads.principal import Components, find_components

BLOCK_BYTES = 64e6
"""Tokens that are predicted at once, in float64."""

POSITION_SCALE = 4.0
"""A place's number learns so much faster than a coordinate of a query, of which there are many."""

START_SPREAD = 0.02
"""Standard deviation of a fresh query, as in V-JEPA."""

TURNED_BY = 10_000
"""Tokens that principal components are found by: enough for the first of a thousand channels."""


@dataclass(frozen=True)
class AttentiveNetwork:
    """Weights: query [H, C]; value [H, C, width/H]; residual, scale, shift [width]; weight [k, width]; bias [k].

    And, where places are learned, position [H, tokens]: what a place adds to the score of its token. There is one query
    a head, so a learned vector for each place, added to the keys, comes to one number a head and place. residual is the
    query token itself, which the block adds to what it saw. A fresh query looks everywhere alike: the probe starts as
    one on mean-pooled tokens. A fresh weight is not 0, or no query would learn where to look.
    """

    tokens: int
    channels: int
    heads: int
    width: int
    classes: int
    positions: bool = False

    @property
    def dropped(self) -> int:
        """Dropout acts on the normalised vector."""
        return self.width

    def start(self, rng: Any) -> dict[str, Any]:
        """Draw the weights of one member."""
        import torch

        each = self.width // self.heads
        places = {"position": torch.zeros(self.heads, self.tokens)} if self.positions else {}
        return places | {
            "query": torch.zeros(self.heads, self.channels),
            "value": torch.randn(self.heads, self.channels, each, generator=rng) / self.channels**0.5,
            "residual": START_SPREAD * torch.randn(self.width, generator=rng),
            "scale": torch.ones(self.width),
            "shift": torch.zeros(self.width),
            "weight": 0.5 * torch.randn(self.classes, self.width, generator=rng) / self.width**0.5,
            "bias": torch.zeros(self.classes),
        }

    def attend(self, weights: Mapping[str, Any], tokens: Any) -> Any:
        """Give how much each head of each member looks at each token: [B, T, M*H], 1 over T."""
        query = weights["query"].flatten(0, 1)
        score = (tokens.flatten(0, 1) @ query.T).reshape(*tokens.shape[:2], -1)
        if "position" in weights:
            score = score + POSITION_SCALE * weights["position"].flatten(0, 1).T
        return score.softmax(dim=1)

    def logits(self, weights: Mapping[str, Any], inputs: tuple[Any, ...], keep: Any) -> Any:
        """Classify tokens [B, T, C]: logits [M, B, k]."""
        import torch

        (tokens,) = inputs
        members = len(weights["query"])
        seen = torch.bmm(self.attend(weights, tokens).transpose(1, 2), tokens)
        seen = seen.reshape(len(tokens), members, self.heads, -1).permute(1, 2, 0, 3)  # [M, H, B, C]
        vector = (seen @ weights["value"]).transpose(1, 2).flatten(2) + weights["residual"][:, None]
        normed = torch.nn.functional.layer_norm(vector, (self.width,))
        normed = normed * weights["scale"][:, None] + weights["shift"][:, None]
        shown = normed if keep is None else normed * keep.mT
        return shown @ weights["weight"].transpose(1, 2) + weights["bias"][:, None]


def first_components(tokens: Float[np.ndarray, "m C"], weights: Float64[np.ndarray, " n"], count: int) -> Components:
    """Find the first components of the tokens of n weighted volumes, m/n a volume, by at most TURNED_BY of them.

    Directions are scaled so that the coordinates of the tokens have a mean square of 1.
    """
    drawn = np.random.default_rng(0).permutation(len(tokens))[:TURNED_BY]
    weight = weights[drawn // (len(tokens) // len(weights))]
    found = find_components(tokens[drawn], weight).first(count)
    square = np.average((found.project(tokens[drawn]) ** 2).mean(axis=1), weights=weight)
    return Components(found.mean, found.directions / (np.sqrt(square) or 1.0))


class AttentiveHead(NetworkHead):
    """Rows are the tokens of a volume, one after another: X [n, tokens*C].

    heads: queries, each of which looks at places of its own. width: length of the vector that is classified, shared by
    the heads. positions: whether a query learns places of the grid too, besides what tokens hold. pca: how many
    principal components of the training tokens it learns from, in place of their channels; 0 for these themselves.
    Channels of an encoder mostly repeat each other: of 192, on phantom volumes (random weights, 743 participants), 16
    components were better by 0.04 of macro AUROC at one rate, in half the time. Other parameters: see NetworkHead.
    Learned: weights_ are those of the channels, whatever it learned from.
    """

    name = "attentive"
    reads_tokens = True
    _turn: Components | None = None

    def __init__(
        self,
        *,
        tokens: int = 1,
        heads: int = 4,
        width: int = 64,
        positions: bool = True,
        pca: int = 0,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        dropout: float = 0.7,
        batch_size: int | None = None,
        max_epochs: int = 100,
        patience: int | None = None,
        hold_out: int | None = None,
        networks: int | None = None,
        device: str = "cpu",
        random_state: int | None = 0,
    ) -> None:
        self.tokens = tokens
        self.heads = heads
        self.width = width
        self.positions = positions
        self.pca = pca
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

    def attention(self, X: Any) -> Float64[np.ndarray, "n heads tokens"]:
        """Give how much each head of each network looks at each token of each row; 1 over the tokens."""
        check_is_fitted(self, "classes_")
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        weights, network = self._exact_weights(), self._network()
        return np.concatenate([network.attend(weights, part).transpose(1, 2).numpy() for part in self._blocks(rows)])

    def gradients(self, X: Any) -> Float64[np.ndarray, "n k tokens C"]:
        """Give how the log-probability of each class, or the one answer, changes with each number of each token."""
        import torch

        check_is_fitted(self, "classes_")
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        weights, network = self._exact_weights(), self._network()
        found = []
        for part in self._blocks(rows):
            tokens = part.clone().requires_grad_()
            with torch.enable_grad():
                logs = network.logits(weights, (tokens,), None)
                logs = logs.softmax(dim=2).mean(dim=0).log() if logs.shape[2] > 1 else logs.mean(dim=0)
                by_class = [
                    torch.autograd.grad(logs[:, number].sum(), tokens, retain_graph=True)[0]
                    for number in range(logs.shape[1])
                ]
            found.append(torch.stack(by_class, dim=1).numpy())
        return np.concatenate(found)

    def _network(self) -> AttentiveNetwork:
        if self.n_features_in_ % self.tokens:
            raise ValueError(
                f"AttentiveHead: expected rows of tokens * channels numbers, got {self.n_features_in_} numbers a row "
                f"with tokens={self.tokens}; give the number of tokens of the features"
            )
        if self.width % self.heads:
            raise ValueError(f"AttentiveHead: width must be a multiple of heads, got {self.width} and {self.heads}")
        channels = self.n_features_in_ // self.tokens if self._turn is None else len(self._turn.directions)
        return AttentiveNetwork(self.tokens, channels, self.heads, self.width, len(self.classes_), self.positions)

    def _read(self, folder: Path) -> None:
        super()._read(folder)
        self.positions = "position" in self.weights_  # there are none in a run of before

    def _units(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> Units:
        import torch

        self._turn = None
        self._network()  # refuses rows that are no tokens
        grid = torch.from_numpy(np.require(rows, np.float32, ["C", "W"])).reshape(len(rows), self.tokens, -1)
        if self.pca:
            self._turn = first_components(rows.reshape(len(rows) * self.tokens, -1), weights, self.pca)
            mean, directions = (torch.from_numpy(part).float() for part in (self._turn.mean, self._turn.directions))
            grid = (grid - mean) @ directions.T
        return Units(lambda positions: (grid.index_select(0, positions),), codes, weights, people, self._at_once(rows))

    def _settle(self, weights: dict[str, Any], units: Units) -> dict[str, Any]:
        """Give the weights of the same function of channels, where components were learned from.

        A mean taken off every token changes no attention, only what is seen.
        """
        import torch

        turn, self._turn = self._turn, None
        if turn is None:
            return super()._settle(weights, units)
        mean, directions = (torch.from_numpy(part) for part in (turn.mean, turn.directions))
        exact = {name: value.double() for name, value in weights.items()}
        value = directions.T @ exact["value"]
        turned = {
            "query": exact["query"] @ directions,
            "value": value,
            "residual": exact["residual"] - (mean @ value).flatten(1),
        }
        return weights | {name: part.float() for name, part in turned.items()}

    def _logits(self, rows: np.ndarray, weights: Mapping[str, Any]) -> np.ndarray:
        import torch

        network = self._network()
        with torch.inference_mode():
            return np.concatenate([network.logits(weights, (part,), None).numpy() for part in self._blocks(rows)], 1)

    def _at_once(self, rows: np.ndarray) -> int:
        return max(1, int(BLOCK_BYTES / (8 * rows.shape[1])))

    def _blocks(self, rows: np.ndarray) -> Iterator[Any]:
        """Give tokens [b, T, C] in float64, a few volumes at a time."""
        import torch

        step = self._at_once(rows)
        for first in range(0, len(rows), step):
            block = np.asarray(rows[first : first + step], dtype=np.float64)
            yield torch.from_numpy(block).reshape(len(block), self.tokens, -1)
