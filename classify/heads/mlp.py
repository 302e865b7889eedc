"""A small multilayer perceptron with batch normalisation and dropout, in torch; by default C-512-256-n."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from classify.cohort.splits import grouped_folds
from classify.heads.contract import Head
from classify.heads.device import find_device
from classify.heads.members import APART, one_thread
from classify.heads.network import BATCHES, MODEL, STEPS, mean_of_members

Seen = tuple[Any, ...]
"""Rows, class codes and weights."""


class MlpHead(Head):
    """Hidden layers that halve from ``width``, AdamW, for as many epochs as held-back participants ask for.

    depth: hidden layers; 0 leaves the linear one. hold_out: one participant in this many is held back, stratified by
    class. patience: epochs without a better held-back loss before it stops. ensemble: how many networks are then
    trained on everybody for the best number of epochs; their probabilities are averaged. batch_size: None for as many
    steps an epoch as the other networks take. device: cpu, cuda or auto; where it learns, not what.
    """

    name = "mlp"
    networks_: list[Any]

    def __init__(
        self,
        *,
        width: int = 512,
        depth: int = 2,
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        batch_size: int | None = None,
        max_epochs: int = 100,
        patience: int = 6,
        hold_out: int = 5,
        ensemble: int = 3,
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
        self.ensemble = ensemble
        self.device = device
        self.random_state = random_state

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        seed = 0 if self.random_state is None else self.random_state
        held = grouped_folds(people, codes, folds=self.hold_out, seed=seed) == 0
        seen = rows.astype(np.float32), codes, (weights / weights.mean()).astype(np.float32)
        with one_thread():
            self.n_iter_ = self._find_epochs(seen, held, seed)
            everybody = tuple(torch_of(part, find_device(self.device)) for part in seen)
            self.networks_ = []
            for start in range(self.ensemble):
                *_, network = self._epochs(everybody, seed + APART * start, self.n_iter_)
                self.networks_.append(network.cpu().eval())

    def _find_epochs(self, seen: Seen, held: Bool[np.ndarray, " n"], seed: int) -> int:
        """Give the epoch, at least the first, after which the held-back loss fell no more."""
        device = find_device(self.device)
        kept, out = (tuple(torch_of(part[chosen], device) for part in seen) for chosen in (~held, held))
        best_loss, best_epoch = np.inf, 1
        for epoch, network in enumerate(self._epochs(kept, seed, self.max_epochs), 1):
            loss = self._mean_loss(network, *out)
            if loss < best_loss:
                best_loss, best_epoch = loss, epoch
            if epoch - best_epoch >= self.patience:
                break
        return best_epoch

    def _epochs(self, seen: Seen, seed: int, count: int) -> Iterator[Any]:
        """Train a network, and give it after each epoch."""
        import torch

        x, y, w = seen
        size = self.batch_size or int(np.clip(len(x) // STEPS, *BATCHES))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._build(np.random.default_rng(seed)).to(x.device)
            order = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        for _ in range(count):
            network.train()
            for batch in torch.split(torch.randperm(len(x), generator=order), size):
                if len(batch) < 2:  # batch normalisation needs two rows
                    continue
                optimiser.zero_grad()
                loss = torch.nn.functional.cross_entropy(network(x[batch]), y[batch], reduction="none")
                (loss * w[batch]).mean().backward()
                optimiser.step()
            yield network

    def _mean_loss(self, network: Any, x: Any, y: Any, w: Any) -> float:
        import torch

        network.eval()
        with torch.inference_mode():
            loss = torch.nn.functional.cross_entropy(network(x), y, reduction="none")
        return float((loss * w).sum() / w.sum())

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        import torch

        x = torch.from_numpy(rows.astype(np.float32))
        with torch.inference_mode():
            logits = np.stack([network(x).numpy().astype(np.float64) for network in self.networks_])
        return mean_of_members(logits)

    def _build(self, rng: np.random.Generator | None = None) -> Any:
        """Make the network; rng: draws what is dropped in training, None where it is only asked."""
        from torch import nn

        sizes = (self.n_features_in_, *(max(1, self.width // 2**level) for level in range(self.depth)))
        hidden = [
            layer
            for wide, narrow in pairwise(sizes)
            for layer in (nn.Linear(wide, narrow), nn.BatchNorm1d(narrow), nn.ReLU(), _make_dropout(self.dropout, rng))
        ]
        return nn.Sequential(*hidden, nn.Linear(sizes[-1], len(self.classes_)))

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        kept = {
            f"{number}/{name}": tensor.contiguous()
            for number, network in enumerate(self.networks_)
            for name, tensor in network.state_dict().items()
        }
        save_file(kept, folder / MODEL)

    def _read(self, folder: Path) -> None:
        from safetensors.torch import load_file

        found = load_file(folder / MODEL)
        if not any("/" in name for name in found):  # a run of before: one network
            found = {f"0/{name}": tensor for name, tensor in found.items()}
        self.ensemble = 1 + max(int(name.split("/")[0]) for name in found)
        self.networks_ = [self._build() for _ in range(self.ensemble)]
        for number, network in enumerate(self.networks_):
            own = {name.split("/")[1]: tensor for name, tensor in found.items() if name.startswith(f"{number}/")}
            network.load_state_dict(own)
            network.eval()


def torch_of(part: np.ndarray, device: str) -> Any:
    """Give an array to a device."""
    import torch

    return torch.from_numpy(part).to(device)


def _make_dropout(share: float, rng: np.random.Generator | None) -> Any:
    """Make dropout from NumPy's random bytes: torch draws its own on a CPU so slowly that it takes a third of a step.

    share: rounded to the next 256th.
    """
    import torch

    dropped = round(256 * share)

    class ByteDropout(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            if not self.training or rng is None or not dropped:
                return x
            bytes_ = np.frombuffer(rng.bytes(x.numel()), dtype=np.uint8).reshape(x.shape)
            return x * torch.from_numpy((bytes_ >= dropped) * np.float32(256 / (256 - dropped))).to(x.device)

    return ByteDropout()
