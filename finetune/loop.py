"""The training loop: epochs of one stage, each judged on the participants of val, and the best weights so far."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn
from torch.nn import functional

from classify.aggregate import aggregate_levels, from_probability
from classify.features import FeatureTable, participant_weights
from classify.heads.contract import softmax
from classify.judging.metrics import all_metrics
from classify.predictions import Predictions
from embeddings_store.errors import RunError
from finetune.config import StageConfig
from finetune.model import LogitsOf
from finetune.stages import learning_rate_at, new_optimiser

MODEL_NAME = "finetune"
METRIC = "balanced_accuracy"


@dataclass(frozen=True)
class Side:
    """One split: its rows, and how they become logits in this stage."""

    table: FeatureTable
    logits_of: LogitsOf


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave. val_balanced_accuracy is of participants; None where val lacks a class."""

    stage: str
    epoch: int
    train_loss: float
    val_balanced_accuracy: float | None
    val_log_loss: float

    @property
    def score(self) -> tuple[float, float]:
        """Order epochs: by balanced accuracy, and by log-loss where that is equal."""
        known = -1.0 if self.val_balanced_accuracy is None else self.val_balanced_accuracy
        return known, -self.val_log_loss


class BestWeights:
    """Keeps the weights of the epoch that did best on val; of equals the first."""

    def __init__(self) -> None:
        self.epoch: Epoch | None = None
        self._weights: dict[str, Tensor] = {}

    def offer(self, epoch: Epoch, model: nn.Module) -> bool:
        """Keep a copy of the weights when the epoch is better than all before."""
        if self.epoch is not None and epoch.score <= self.epoch.score:
            return False
        self.epoch = epoch
        self._weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return True

    def restore(self, model: nn.Module) -> None:
        """Put the best weights back; does nothing before the first epoch."""
        if self._weights:
            model.load_state_dict(self._weights)


def train_stage(
    model: nn.Module,
    name: str,
    stage: StageConfig,
    train: Side,
    val: Side,
    *,
    classes: int,
    batch_size: int,
    gradient_clip: float,
    rng: np.random.Generator,
    best: BestWeights,
    tell: Callable[[str], None],
) -> list[Epoch]:
    """Train what requires gradients for the epochs of a stage; ``best`` sees every epoch.

    Raises RunError where the loss is not finite.
    """
    optimiser = new_optimiser([model], stage)
    weights = volume_weights(train.table)
    batches = -(-len(train.table.y) // batch_size)
    history: list[Epoch] = []
    for number in range(1, stage.epochs + 1):
        order = rng.permutation(len(train.table.y))
        losses: list[float] = []
        for start in range(0, len(order), batch_size):
            step = (number - 1) * batches + len(losses)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate_at(step, stage.epochs * batches, stage)
            rows = order[start : start + batch_size]
            losses.append(_take_step(model, optimiser, train, rows, weights, gradient_clip) * len(rows))
        if not np.isfinite(losses).all():
            raise RunError(f"stage {name}, epoch {number}: the loss is not finite; lower {name}.learning_rate")
        epoch = _judge_epoch(name, number, sum(losses) / len(order), predict(val, classes, batch_size))
        is_best = best.offer(epoch, model)
        history.append(epoch)
        tell(_describe(epoch, stage.epochs, is_best=is_best))
    return history


def volume_weights(table: FeatureTable) -> Float64[np.ndarray, " n"]:
    """Weigh volumes as the probes do (classes, and participants of a class, weigh the same), with a mean of 1."""
    weights = participant_weights(table.y, table.participant)
    return np.asarray(weights * (len(weights) / weights.sum()), dtype=np.float64)


def predict(side: Side, classes: int, batch_size: int) -> dict[str, Predictions]:
    """Predict every row of a split, per volume, eye and participant."""
    rows = np.arange(len(side.table.y))
    with torch.no_grad():
        logits = [side.logits_of(rows[start : start + batch_size]).cpu() for start in range(0, len(rows), batch_size)]
    probability = softmax(torch.cat(logits).numpy().astype(np.float64))
    table = side.table
    volumes = from_probability(
        probability, np.arange(classes), classes, model=MODEL_NAME, level="volume", split=str(table.split[0]),
        unit=table.volume, table=table,
    )  # fmt: skip
    return aggregate_levels(volumes, table.eye)


def _take_step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    train: Side,
    rows: Int64[np.ndarray, " b"],
    weights: Float64[np.ndarray, " n"],
    gradient_clip: float,
) -> float:
    """Change the weights by one batch; give its loss as it was before."""
    logits = train.logits_of(rows)
    label = torch.from_numpy(train.table.y[rows]).to(logits.device)
    weight = torch.from_numpy(weights[rows].astype(np.float32)).to(logits.device)
    loss = (functional.cross_entropy(logits, label, reduction="none") * weight).mean()
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    nn.utils.clip_grad_norm_([weight for weight in model.parameters() if weight.requires_grad], gradient_clip)
    optimiser.step()
    return float(loss.detach())


def _judge_epoch(stage: str, number: int, train_loss: float, levels: dict[str, Predictions]) -> Epoch:
    people = levels["participant"]
    names = [str(number) for number in range(people.logits.shape[1])]
    measured = all_metrics(people.label, people.probability, np.ones((len(people.label), 1)), names)
    accuracy = float(measured[METRIC][0])
    return Epoch(stage, number, train_loss, accuracy if np.isfinite(accuracy) else None, float(measured["log_loss"][0]))


def _describe(epoch: Epoch, epochs: int, *, is_best: bool) -> str:
    accuracy = "absent" if epoch.val_balanced_accuracy is None else f"{epoch.val_balanced_accuracy:.3f}"
    return (
        f"{epoch.stage} {epoch.epoch}/{epochs}: train loss {epoch.train_loss:.4f}; participants of val: balanced "
        f"accuracy {accuracy}, log-loss {epoch.val_log_loss:.4f}{' (best so far)' if is_best else ''}"
    )
