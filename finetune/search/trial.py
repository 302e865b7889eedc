"""One trial of a search: a suggested recipe, trained inside train and scored on participants that were held back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from classify.cohort.splits import check_no_leak, grouped_folds
from classify.features.standardise import Standardiser
from extract.device.backend import Backend
from extract.encoder.encoder import Encoder
from finetune.data.images import ImageCache
from finetune.data.inputs import Inputs
from finetune.options import TrainingOptions
from finetune.parallel.processes import OneProcess
from finetune.recipe.config import FinetuneConfig
from finetune.run.prepared import Prepared
from finetune.training.epochs import BestWeights, Epoch
from finetune.training.loop import Trainer
from finetune.training.run_stages import Feeds, new_model, train_stages

FOLDS = 5
LAST = "last"

Report = Callable[[int, float], None]
"""Hears the number of epochs so far and the best score of them; may stop the trial by an exception."""


@dataclass(frozen=True)
class TrialRunner:
    """Everything that trials share; it can be sent to another process. inputs: train alone, a fold of it as val."""

    options: TrainingOptions
    encoder: Encoder
    inputs: Inputs
    images: ImageCache
    classes: int

    def score(self, found: Mapping[str, Any], backend: Backend, report: Report, tell: Callable[[str], None]) -> float:
        """Train what was suggested; give the score of its best epoch."""
        options, config = self.options, recipe_of(self.options.recipe, found)
        stages = options.stages if found.get("blocks", 0) else ("head",)
        train = self.inputs.features.only("train")
        standardiser = Standardiser.fit(train.x, train.protocol)

        def watch(history: Sequence[Epoch]) -> None:
            report(len(history), max(map(score_of, history)))

        model = new_model(config, self.encoder, backend, standardiser, self.classes, options.seed, train, tell)
        trainer = Trainer(
            model, config, self.classes, options.seed, backend, OneProcess(), BestWeights(), tell, watch,
            compiled=options.compiled,
        )  # fmt: skip
        feeds = Feeds(config, self.inputs, self.images, standardiser, backend, self.classes, options.seed)
        _, best = train_stages(trainer, stages, feeds)
        return score_of(best)

    @property
    def held_back(self) -> int:
        """Count the participants that score the trials."""
        return len(np.unique(self.inputs.features.only("val").participant))


def inside_train(ready: Prepared[Any], options: TrainingOptions) -> TrialRunner:
    """Hold back one participant in FOLDS of train, stratified by class; val and test are left out altogether."""
    train = ready.inputs.features.only("train")
    held = grouped_folds(train.participant, train.y, folds=FOLDS, seed=options.seed) == 0
    check_no_leak({"fitted": train.participant[~held].tolist(), "held back": train.participant[held].tolist()})
    features = replace(train, split=np.where(held, "val", "train"))
    inputs = replace(ready.inputs, features=features)
    return TrialRunner(options, ready.encoder, inputs, ready.images, len(ready.task.classes))


def score_of(epoch: Epoch) -> float:
    """Order epochs by balanced accuracy of participants; log-loss breaks ties without ever outweighing a person."""
    known = 0.0 if epoch.val_balanced_accuracy is None else epoch.val_balanced_accuracy
    return known - 1e-3 * min(epoch.val_log_loss, 10.0)


def recipe_of(config: FinetuneConfig, found: Mapping[str, Any]) -> FinetuneConfig:
    """Put what was suggested over a recipe; of zero blocks the stage of the last blocks is left as it is."""
    settings = config.model_dump()
    if settings["head"]["kind"] != found["head"]:
        settings["head"] = {"kind": found["head"]}
    settings["batch_size"] = found["batch_size"]
    settings["micro_batch_size"] = min(config.micro_batch_size or found["batch_size"], found["batch_size"])
    settings["stages"]["head"]["learning_rate"] = found["learning_rate"]
    if found.get("blocks"):
        settings["stages"][LAST] |= {name: found[name] for name in ("blocks", "encoder_learning_rate")}
    return FinetuneConfig.model_validate(settings)
