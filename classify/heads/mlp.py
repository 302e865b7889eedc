"""A small multilayer perceptron with batch normalisation and dropout, in torch; by default C-512-256-n."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from classify.cohort.splits import grouped_folds
from classify.heads.contract import Head, softmax
from classify.heads.device import find_device
from classify.heads.members import losses_of, one_thread

MODEL = "head.safetensors"


class MlpHead(Head):
    """Hidden layers that halve from ``width``, AdamW, early stopping on participants held back from its own rows.

    depth: hidden layers; 0 leaves the linear one. hold_out: one participant in this many is held back, stratified by
    class. patience: epochs without a better held-back loss before it stops; the best epoch's weights are kept.
    device: cpu, cuda or auto; where it learns, not what.
    """

    name = "mlp"
    network_: Any

    def __init__(
        self,
        *,
        width: int = 512,
        depth: int = 2,
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 256,
        max_epochs: int = 100,
        patience: int = 6,
        hold_out: int = 5,
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
        self.device = device
        self.random_state = random_state

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        import torch

        seed = 0 if self.random_state is None else self.random_state
        held = grouped_folds(people, codes, folds=self.hold_out, seed=seed) == 0
        with torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(seed)
            self.network_ = self._build(np.random.default_rng(seed))
            self._train(rows.astype(np.float32), codes, (weights / weights.mean()).astype(np.float32), held)

    def _train(self, rows: np.ndarray, codes: np.ndarray, weights: np.ndarray, held: Bool[np.ndarray, " n"]) -> None:
        """Run epochs until the held-back loss stops falling, then take the best epoch's weights back."""
        import torch

        device = find_device(self.device)
        self.network_.to(device)
        x, y, w = (torch.from_numpy(part).to(device) for part in (rows, codes, weights))
        kept = torch.from_numpy(~held).to(device)
        seen = (x[kept], y[kept], w[kept])
        optimiser = torch.optim.AdamW(
            self.network_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        best_loss, best_state, best_epoch = np.inf, _copy_state(self.network_), 0
        for epoch in range(1, self.max_epochs + 1):
            self._run_epoch(seen, optimiser)
            loss = self._mean_loss(x[~kept], y[~kept], w[~kept])
            if loss < best_loss:
                best_loss, best_state, best_epoch = loss, _copy_state(self.network_), epoch
            if epoch - best_epoch >= self.patience:
                break
        self.network_.load_state_dict(best_state)
        self.network_.cpu().eval()
        self.n_iter_ = best_epoch

    def _run_epoch(self, seen: tuple[Any, Any, Any], optimiser: Any) -> None:
        import torch

        x, y, w = seen
        self.network_.train()
        for batch in torch.split(torch.randperm(len(x)), self.batch_size):
            if len(batch) < 2:  # batch normalisation needs two rows
                continue
            optimiser.zero_grad()
            loss = losses_of(self.network_(x[batch]), y[batch])
            (loss * w[batch]).mean().backward()
            optimiser.step()

    def _mean_loss(self, x: Any, y: Any, w: Any) -> float:
        import torch

        self.network_.eval()
        with torch.inference_mode():
            loss = losses_of(self.network_(x), y)
        return float((loss * w).sum() / w.sum())

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            logits = self.network_(torch.from_numpy(rows.astype(np.float32)))
        return softmax(logits.numpy().astype(np.float64))

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

        save_file({name: tensor.contiguous() for name, tensor in self.network_.state_dict().items()}, folder / MODEL)

    def _read(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self.network_ = self._build()
        self.network_.load_state_dict(load_file(folder / MODEL))
        self.network_.eval()


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


def _copy_state(network: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
