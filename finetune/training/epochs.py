"""What an epoch gave, which one was best, and when a stage has learned enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Shaped
from torch import Tensor

from finetune.model.lora import plain_weights
from finetune.model.network import VolumeClassifier

METRIC = "balanced_accuracy"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave; a line of ``history`` in the run record.

    train_loss: mean over volumes, weighted and augmented as they are trained on. val_: of participants; the balanced
    accuracy is None where val lacks a class. learning_rate: the head's at the last step of the epoch;
    encoder_learning_rate: of the last block then, 0 while the encoder is frozen.
    """

    stage: str
    epoch: int
    train_loss: float
    val_balanced_accuracy: float | None
    val_log_loss: float
    learning_rate: float = 0.0
    encoder_learning_rate: float = 0.0

    @property
    def score(self) -> tuple[float, float]:
        """Order epochs: by balanced accuracy, and by log-loss where that is equal."""
        known = -1.0 if self.val_balanced_accuracy is None else self.val_balanced_accuracy
        return known, -self.val_log_loss


@dataclass
class BestWeights:
    """The weights of the epoch that did best on val, under the names of a model without LoRA; of equals the first."""

    epoch: Epoch | None = None
    weights: Mapping[str, Shaped[Tensor, "..."]] = field(default_factory=dict)

    def offer(self, epoch: Epoch, model: VolumeClassifier) -> bool:
        """Keep a copy of the weights when the epoch is better than all before."""
        if self.epoch is not None and epoch.score <= self.epoch.score:
            return False
        self.epoch, self.weights = epoch, plain_weights(model)
        return True

    def restore(self, model: VolumeClassifier) -> None:
        """Put the best weights back into a model without LoRA; does nothing before the first epoch."""
        if self.weights:
            model.load_state_dict(dict(self.weights))


def has_stalled(history: Sequence[Epoch], patience: int | None) -> bool:
    """Say whether the last ``patience`` epochs of a stage brought nothing better than those before them."""
    if patience is None or len(history) <= patience:
        return False
    return max(epoch.score for epoch in history[-patience:]) <= max(epoch.score for epoch in history[:-patience])


def compare_stages(history: Sequence[Epoch]) -> dict[str, object]:
    """Give each stage's best score on val, and say in words where a later stage did no better than one before it."""
    stages = list(dict.fromkeys(epoch.stage for epoch in history))
    best = {stage: max((epoch for epoch in history if epoch.stage == stage), key=lambda e: e.score) for stage in stages}
    gains = []
    for number, stage in enumerate(stages[1:], start=1):
        before = max((best[name] for name in stages[:number]), key=lambda epoch: epoch.score)
        if best[stage].score <= before.score:
            gains.append(f"stage {stage} did not improve on stage {before.stage} on val")
    return {
        METRIC: {stage: epoch.val_balanced_accuracy for stage, epoch in best.items()},
        "log_loss": {stage: epoch.val_log_loss for stage, epoch in best.items()},
        "note": "; ".join(gains) if gains else "each stage did at least as well on val as those before it",
    }
