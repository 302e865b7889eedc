"""A faint grating in noise, and how much better a fine-tuned model finds it than the probe of the frozen encoder.

Participants of class 1 have a diagonal grating, whose phase varies from one to the next; a linear probe of mean tokens
sees a part of it. Everything follows from the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from finetune_study import IMAGE_SIZE, feed_of, rows_of, trainer_of, write_volumes

from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable
from classify.judging.bootstrap import draw_replicates, replicate_metrics, summarise
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, judged_of
from extract.device.cpu import CpuBackend
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder
from finetune.data.augment.augmenter import Augmenter
from finetune.data.feeds import Feed, VectorFeed
from finetune.data.images import ImageCache
from finetune.data.sampling import loss_weights
from finetune.recipe.config import FinetuneConfig
from finetune.training.first_head import fit_probe
from finetune.training.loop import predict, train_stage
from finetune.training.run_stages import new_model
from finetune.training.stages import set_trainable

CLASSES = ("noise", "grating")
COUNTS = {"train": 180, "val": 60, "test": 400}
PERIOD, PHASE_SPREAD = 8, 1.0  # voxels, radians
METRIC = "macro_auroc"


@dataclass(frozen=True)
class Grating:
    """One cohort: its volumes in a cache, and the vectors of the frozen encoder. amplitude: in deviations of noise."""

    encoder: Encoder
    images: ImageCache
    table: FeatureTable
    standardiser: Standardiser

    @classmethod
    def make(cls, folder: Path, amplitude: float, seed: int) -> "Grating":
        """Draw the volumes, one a participant, and encode them."""
        rng, count = np.random.default_rng([seed, 77]), sum(COUNTS.values())
        encoder, images = random_encoder("random:tiny", IMAGE_SIZE), ImageCache(folder, "grating", "float32")
        label = np.arange(count) % 2
        _, row, column = np.meshgrid(*map(np.arange, IMAGE_SIZE), indexing="ij")
        phase = rng.normal(0, PHASE_SPREAD, (count, 1, 1, 1, 1))
        wave = 2**0.5 * np.sin(2 * np.pi * (row + column) / PERIOD + phase)
        drawn = rng.normal(size=(count, 1, *IMAGE_SIZE)) + amplitude * wave * label[:, None, None, None, None]
        volumes = drawn.astype(np.float32)
        with torch.no_grad():
            parts = [encoder.module(torch.from_numpy(part))["last"].mean(1) for part in np.array_split(volumes, 40)]
        rows = rows_of(label.tolist(), "", write_volumes(images, volumes), x=torch.cat(parts).numpy())
        table = replace(rows, split=np.repeat(list(COUNTS), list(COUNTS.values())))
        train = table.only("train")
        return cls(encoder, images, table, Standardiser.fit(train.x, train.protocol))

    def feed(self, split: str, config: FinetuneConfig, augmenter: Augmenter | None = None) -> Feed:
        """Give the volumes of a split."""
        return feed_of(self.images, self.table.only(split), config, 2, augmenter)

    def vectors(self, split: str, config: FinetuneConfig) -> Feed:
        """Give its vectors of the frozen encoder."""
        table = self.table.only(split)
        weights = loss_weights(table, config.sampling, class_weights=True)
        return VectorFeed(table.standardised(self.standardiser), CpuBackend("fp32"), weights, 2)

    def probe(self) -> Predictions:
        """Predict test by the linear probe of train, as ``classify probe`` fits it."""
        fitted = fit_probe(self.table.only("train"), 2, 0)
        return judged_of(fitted.predict(self.table.only("test"), classes=2, split="test"))

    def fine_tune(self, config: FinetuneConfig, stages: Sequence[str], seed: int = 0) -> Predictions:
        """Train stage after stage, each from the best epoch on val so far, and predict test by the best of all."""
        config = config.model_copy(update={"precision": "fp32", "recompute": False})
        train, backend = self.table.only("train"), CpuBackend("fp32")
        model = new_model(config, self.encoder, backend, self.standardiser, 2, seed, train, lambda _: None)
        trainer, history = trainer_of(model, config, 2, seed=seed), []
        for stage in stages:
            trainer.best.restore(model)
            set_trainable(model, config.stages.find(stage), seed)
            if stage == "head":
                feeds = (self.vectors("train", config), self.vectors("val", config))
            else:
                augmenter = Augmenter(config.augment, config.stages.find(stage).augment, (seed, 100))
                feeds = (self.feed("train", config, augmenter), self.feed("val", config))
            history = train_stage(trainer, stage, *feeds, history)
        trainer.best.restore(model)
        return judged_of(predict(trainer, self.feed("test", config)))


def gain(ours: Predictions, theirs: Predictions) -> Estimate:
    """Give ours minus theirs in AUROC, with the paired interval over participants."""
    drawn = draw_replicates(theirs.participant, replicates=1000, seed=0)
    values = [replicate_metrics(one, drawn, CLASSES)[METRIC] for one in (ours, theirs)]
    return summarise(values[0] - values[1], "")
