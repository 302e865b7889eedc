"""The stages of one training, from prepared inputs to a model with the best weights of all."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable
from embeddings_store.machine import usable_cores
from extract.device.backend import Backend
from extract.encoder.encoder import Encoder
from finetune.data.augment.augmenter import Augmenter
from finetune.data.dataset import VolumeDataset
from finetune.data.feeds import Feed, TokenFeed, VectorFeed, VolumeFeed
from finetune.data.images import ImageCache
from finetune.data.inputs import Inputs
from finetune.data.sampling import loss_weights
from finetune.model.lora import remove_lora
from finetune.model.network import VolumeClassifier, groups_of
from finetune.parallel.processes import require_same
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.stage_names import STAGES
from finetune.training.epochs import Epoch
from finetune.training.first_head import begin_head
from finetune.training.loop import Trainer, train_stage
from finetune.training.resume import require_same_weights
from finetune.training.stages import set_trainable

MOST_WORKERS = 16
"""A worker reads some 100 cached volumes/s; each holds two batches ahead."""


def new_model(
    config: FinetuneConfig,
    encoder: Encoder,
    backend: Backend,
    standardiser: Standardiser,
    classes: int,
    seed: int,
    train: FeatureTable,
    tell: Callable[[str], None],
) -> VolumeClassifier:
    """Put encoder and a new head on the device; train: raw vectors, of which a head may begin as the probe."""
    model = VolumeClassifier(encoder, standardiser, classes, seed, config.head, bf16=config.precision == "bf16")
    begin_head(model, config, train, classes, seed, tell)
    return place_model(model, backend)


def place_model(model: VolumeClassifier, backend: Backend) -> VolumeClassifier:
    """Put a model on the device."""
    model.encoder = backend.prepare(model.encoder)  # on its own, so that the device may choose its attention
    return backend.prepare(model)


@dataclass(frozen=True)
class Feeds:
    """What each stage learns from and is judged on."""

    config: FinetuneConfig
    inputs: Inputs
    images: ImageCache
    standardiser: Standardiser
    backend: Backend
    classes: int
    seed: int

    def train(self, stage: str) -> Feed:
        """Give train, augmented as the stage says."""
        strength = self.config.stages.find(stage).augment
        seed = (self.seed, 100 + STAGES.index(stage))
        return self._feed(stage, "train", Augmenter(self.config.augment, strength, seed) if strength else None)

    def val(self, stage: str) -> Feed:
        """Give val, as it is."""
        return self._feed(stage, "val", None)

    def _feed(self, stage: str, split: str, augmenter: Augmenter | None) -> Feed:
        config, table = self.config, self.inputs.features.only(split)
        weights = loss_weights(table, config.sampling, class_weights=config.class_weights)
        group = groups_of(self.standardiser, table.protocol)
        frozen = stage == "head" and config.stages.head.augment == 0
        if frozen and config.head.kind != "attentive":
            return VectorFeed(table.standardised(self.standardiser), self.backend, weights, self.classes)
        if frozen and self.inputs.read_tokens is not None:
            return TokenFeed(table, self.backend, weights, self.classes, group, self.inputs.read_tokens)
        return feed_volumes(
            VolumeDataset(table, self.images, group, weights, self.classes, augmenter), config, self.backend
        )


def feed_volumes(dataset: VolumeDataset, config: FinetuneConfig, backend: Backend) -> VolumeFeed:
    """Feed volumes as a recipe says, padded where the device compiles for each shape; an accelerator changes them."""
    size = (config.micro_batch_size or config.batch_size) if backend.static_shapes else None
    return VolumeFeed(replace(dataset, raw=not backend.is_host), backend, choose_workers(config, backend), size)


def choose_workers(config: FinetuneConfig, backend: Backend) -> int:
    """Give the loading processes: the recipe's, or by the cores of this process; none on a CPU, where it trains."""
    if config.workers is not None:
        return config.workers
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 0 if backend.is_host else min(MOST_WORKERS, max(1, usable_cores() // neighbours))


def train_stages(trainer: Trainer, stages: Sequence[str], feeds: Feeds) -> tuple[list[Epoch], Epoch]:
    """Run the stages in order, each from the best weights so far; the model ends with the best of all.

    A saved state is gone on from: stages before its own are over.
    """
    saved = trainer.state.load() if trainer.state else None
    begins = saved and (saved.position.stage, saved.position.epoch, saved.position.step)
    require_same(trainer.processes, begins, "the training state")
    history: list[Epoch] = []
    if saved is not None:
        if saved.best.weights:
            require_same_weights(trainer.model, saved.best.weights, saved.folder)
        trainer.tell(f"going on with stage {saved.position.stage}, epoch {saved.position.epoch}")
        trainer.best.epoch, trainer.best.weights = saved.best.epoch, saved.best.weights
        history = [epoch for epoch in saved.position.history if epoch.stage != saved.position.stage]
    begun = stages.index(saved.position.stage) if saved else 0
    for number, name in enumerate(stages[begun:], start=begun):
        trainer.best.restore(trainer.model)
        set_trainable(trainer.model, trainer.config.stages.find(name), trainer.seed)
        here = saved if number == begun else None
        if here is not None:
            require_same_weights(trainer.model, here.tensors.model, here.folder)
        with ExitStack() as after:
            after.callback(remove_lora, trainer.model.encoder)
            history = train_stage(trainer, name, feeds.train(name), feeds.val(name), history, here)
    trainer.best.restore(trainer.model)
    assert trainer.best.epoch is not None  # noqa: S101 - every stage has an epoch
    return history, trainer.best.epoch
