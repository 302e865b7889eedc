"""The loop: it learns, it keeps the best weights, it stops when numbers break."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_study import IMAGE_SIZE
from torch import nn

from classify.features import FeatureTable
from classify.standardise import Standardiser
from embeddings_store.errors import RunError
from embeddings_store.index import IndexRow
from embeddings_store.schema import Eye, Note, ParticipantId, RowFacts, VolumeRef, volume_id
from extract.device.cpu import CpuBackend
from extract.encoder.random_init import random_encoder
from extract.load import LoadedVolume
from finetune.config import StageConfig
from finetune.images import ImageCache
from finetune.loop import BestWeights, Epoch, Side, predict, train_stage, volume_weights
from finetune.model import VolumeClassifier, logits_of_images, logits_of_vectors
from finetune.stages import set_trainable

STAGE = StageConfig(epochs=12, learning_rate=2e-3, weight_decay=0.0, warmup_fraction=0.1)


def rows_of(x: np.ndarray, y: np.ndarray, split: str, volumes: list[str] | None = None) -> FeatureTable:
    count = len(y)
    return FeatureTable(
        x=x.astype(np.float32), y=y, volume=np.array(volumes or [f"{split}{n}" for n in range(count)]),
        participant=np.array([f"{1000 + n}" for n in range(count)]), eye=np.array(["L"] * count),
        protocol=np.array(["cirrus_mac"] * count), split=np.array([split] * count), names=(), space="",
    )  # fmt: skip


def train(model: nn.Module, train_side: Side, val_side: Side, stage: StageConfig, best: BestWeights) -> list[Epoch]:
    return train_stage(
        model, "all", stage, train_side, val_side, classes=2, batch_size=4, gradient_clip=1.0,
        rng=np.random.default_rng(0), best=best, tell=lambda line: None,
    )  # fmt: skip


def test_eight_volumes_are_learned_by_heart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = ImageCache(tmp_path, "none")
    refs = [
        VolumeRef(f"{n}.dcm", 1, "", volume_id(f"{n}.dcm"), ParticipantId("1001"), Eye.LEFT, "d", "p") for n in range(8)
    ]
    for row, ref in enumerate(refs):
        image = rng.normal(size=(1, *IMAGE_SIZE)).astype(np.float32)
        images.write(LoadedVolume(IndexRow(row, ref), image, RowFacts(4, 32, 32, None, Eye.LEFT, Note.NONE), b"", 1))
    encoder = random_encoder("random:tiny", IMAGE_SIZE)
    width = encoder.architecture.width
    standardiser = Standardiser((), np.zeros((1, width)), np.ones((1, width)))
    model = VolumeClassifier(encoder, standardiser, 2, seed=0)
    set_trainable(model.encoder, "all", 1)
    table = rows_of(np.zeros((8, 1)), np.arange(8) % 2, "train", [ref.volume for ref in refs])
    side = Side(table, logits_of_images(model, CpuBackend("fp32"), table, images, standardiser))
    history = train(model, side, side, STAGE, BestWeights())
    assert history[0].train_loss > 0.6
    assert history[-1].train_loss < 0.1
    assert history[-1].val_balanced_accuracy == 1.0


class Linear(nn.Module):
    """As much of a classifier as the loop needs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def side(self, table: FeatureTable) -> Side:
        x = torch.from_numpy(table.x)
        return Side(table, lambda rows: self.head(x[torch.from_numpy(rows)]))


def test_the_best_weights_are_kept_and_not_the_last() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(16, 3)), np.arange(16) % 2
    x[:, 0] += 4 * y
    model = Linear()
    # What is right in train is wrong in val: every step of learning makes val worse.
    train_side, val_side = model.side(rows_of(x, y, "train")), model.side(rows_of(x, 1 - y, "val"))
    best = BestWeights()
    history = train(model, train_side, val_side, STAGE, best)
    assert best.epoch == min(history, key=lambda epoch: (-(epoch.val_balanced_accuracy or 0), epoch.val_log_loss))
    assert best.epoch != history[-1]

    def log_loss() -> float:
        people = predict(val_side, 2, 4)["participant"]
        return float(-np.log(people.probability[np.arange(16), people.label]).mean())

    assert log_loss() == pytest.approx(history[-1].val_log_loss)
    best.restore(model)
    assert log_loss() == pytest.approx(best.epoch.val_log_loss)
    assert log_loss() < history[-1].val_log_loss - 1e-4


def test_of_equal_accuracies_the_smaller_log_loss_wins_and_of_equals_the_first() -> None:
    best, model = BestWeights(), Linear()
    first = Epoch("head", 1, 0.5, 0.5, 0.7)
    assert best.offer(first, model)
    assert not best.offer(replace(first, epoch=2), model)
    assert best.offer(replace(first, epoch=3, val_log_loss=0.6), model)
    assert not best.offer(replace(first, epoch=4, val_balanced_accuracy=None, val_log_loss=0.1), model)
    assert best.offer(replace(first, epoch=5, val_balanced_accuracy=0.75, val_log_loss=2.0), model)


def test_a_class_missing_in_val_leaves_the_accuracy_absent() -> None:
    rng = np.random.default_rng(1)
    model = Linear()
    table = rows_of(rng.normal(size=(8, 3)), np.arange(8) % 2, "train")
    val = rows_of(rng.normal(size=(4, 3)), np.zeros(4, np.int64), "val")
    history = train(model, model.side(table), model.side(val), STAGE, BestWeights())
    assert {epoch.val_balanced_accuracy for epoch in history} == {None}
    assert all(np.isfinite(epoch.val_log_loss) for epoch in history)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    model = Linear()
    x = np.full((4, 3), np.inf)
    table = rows_of(x, np.arange(4) % 2, "train")
    with pytest.raises(RunError, match=r"stage all, epoch 1: the loss is not finite; lower all\.learning_rate"):
        train(model, model.side(table), model.side(table), STAGE, BestWeights())


def test_weights_are_those_of_the_probes_with_a_mean_of_one() -> None:
    table = rows_of(np.zeros((6, 1)), np.array([0, 0, 0, 0, 1, 1]), "train")
    table = replace(table, participant=np.array(["1", "1", "2", "3", "4", "4"]))
    weights = volume_weights(table)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[:4].sum() == pytest.approx(weights[4:].sum())
    assert weights[:2].sum() == pytest.approx(weights[2]) == pytest.approx(weights[3])


def test_stored_vectors_give_the_logits_of_the_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    images, encoder = ImageCache(tmp_path, "none"), random_encoder("random:tiny", IMAGE_SIZE)
    volumes = rng.normal(size=(4, 1, *IMAGE_SIZE)).astype(np.float32)
    refs = [VolumeRef(f"{n}", 1, "", volume_id(f"{n}"), ParticipantId("1001"), Eye.LEFT, "d", "p") for n in range(4)]
    for row, (ref, image) in enumerate(zip(refs, volumes, strict=True)):
        images.write(LoadedVolume(IndexRow(row, ref), image, RowFacts(4, 32, 32, None, Eye.LEFT, Note.NONE), b"", 1))
    with torch.no_grad():
        vectors = encoder.module(torch.from_numpy(volumes))["last"].mean(1).numpy()
    protocol = np.array(["a", "b"] * 12)
    fitted = Standardiser.fit(np.repeat(vectors, 6, axis=0) + rng.normal(0, 0.1, (24, 192)).astype("f4"), protocol)
    raw = replace(rows_of(vectors, np.arange(4) % 2, "val", [ref.volume for ref in refs]), protocol=protocol[:4])
    table = raw.standardised(fitted)
    model, backend = VolumeClassifier(encoder, fitted, 2, seed=0), CpuBackend("fp32")
    rows = np.array([3, 0, 1])
    with torch.no_grad():
        stored = logits_of_vectors(model, backend, table)(rows)
        whole = logits_of_images(model, backend, table, images, fitted)(rows)
    assert fitted.protocols == ("a", "b")
    np.testing.assert_allclose(stored.numpy(), whole.numpy(), atol=1e-4)
