"""P14: a training epoch of fine-tuning, against a plain MONAI + PyTorch loop, and against decoding anew each epoch.

All three see the same phantom volumes with the same encoder and batch size, and augment alike (a MONAI rotation, scale
and shift, contrast, noise). The plain loop holds its preprocessed volumes in memory, as MONAI's CacheDataset does; the
earlier way fetched, decoded and preprocessed every volume in every epoch.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from comparison import Goal, Row, time_row
from settings import Settings
from side_by_side import in_turn
from torch import nn

from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable
from embeddings_store.index import IndexRow
from extract.bucket.catalogue import list_volumes
from extract.bucket.open import open_source
from extract.device.cpu import CpuBackend
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder
from extract.load import LoadedVolume, VolumeLoader, new_loader
from extract.phantom.broken import KINDS
from extract.phantom.bucket import generate
from extract.phantom.plan import parse_plan
from extract.preset import PRESETS, Recipe
from extract.stages import StageClock
from finetune.data.augment.augmenter import Augmenter
from finetune.data.augment.montage import NOTHING
from finetune.data.dataset import VolumeDataset
from finetune.data.feeds import VolumeFeed
from finetune.data.images import ImageCache
from finetune.model.network import VolumeClassifier
from finetune.parallel.processes import OneProcess
from finetune.parallel.sharing import Alone
from finetune.recipe.config import AugmentConfig
from finetune.recipe.load import load_config
from finetune.training.epochs import BestWeights
from finetune.training.loop import Trainer, _run_epoch
from finetune.training.resume import Position
from finetune.training.stages import new_optimiser, set_trainable

CLASSES, BATCH = 2, 4
ALIKE = ("rotation_degrees", "scaling", "shift", "contrast", "noise")


def measure(settings: Settings) -> list[Row]:
    size, count, scale = ((8, 64, 64), 8, 0.1) if settings.quick else ((32, 192, 192), 12, 0.5)
    if settings.full:
        size, count, scale = (64, 384, 384), 8, 1.0
    rounds = 1 if settings.quick else 3
    lines, load = _bucket(settings.folder, size, count, scale)
    encoder = random_encoder("random:tiny", size)
    images = ImageCache(settings.folder / "images", "bench")
    volumes = [images.write(_loaded(load(line))).image for line in lines]
    ours = _our_epoch(encoder, images, lines)
    plain = _plain_epoch(encoder, lambda number: volumes[number], count)
    earlier = _plain_epoch(encoder, lambda number: _loaded(load(lines[number])).image, count)
    work = f"one epoch of stage all on {count} volumes of {'x'.join(map(str, size))}, random:tiny, batch {BATCH}"
    notes = ("rotation, scale, shift, contrast and noise in both",)
    return [
        time_row(
            in_turn(ours, theirs, rounds=rounds, agree=_both_learn),
            id="P14",
            work=work,
            peer=peer,
            notes=notes,
            goal=Goal(ratio=1.0),
        )
        for theirs, peer in (
            (plain, "a plain MONAI + PyTorch loop on volumes held in memory"),
            (earlier, "the same loop, decoding and preprocessing in every epoch"),
        )
    ]


def _bucket(folder: Path, size: tuple[int, int, int], count: int, scale: float) -> tuple[list[IndexRow], VolumeLoader]:
    """Make a bucket of Cirrus cubes at a share of their native size, and what reads it."""
    plan = parse_plan(
        participants=-(-count // 2), devices=("zeiss_cirrus",), protocols=(), scale=scale, syntax="explicit",
        effect_um=8.0, effect_sector=None, confound=None, schema="v2", manifest=False, breaks=(), kinds=tuple(KINDS),
        seed=1,
    )  # fmt: skip
    generate(plan, folder / "bucket", 1, lambda: None)
    source = open_source(str(folder / "bucket"), "", None, streams=1)
    refs = list_volumes(source).refs[:count]
    return [IndexRow(row, ref) for row, ref in enumerate(refs)], new_loader(
        source, Recipe(PRESETS["pretrain"], size), StageClock()
    )


def _loaded(volume: object) -> LoadedVolume:
    assert isinstance(volume, LoadedVolume), volume
    return volume


def _new_model(encoder: Encoder) -> VolumeClassifier:
    shape = (1, encoder.architecture.width)
    return VolumeClassifier(encoder, Standardiser((), np.zeros(shape), np.ones(shape)), CLASSES, seed=0)


def _our_epoch(encoder: Encoder, images: ImageCache, lines: list[IndexRow]) -> Callable[[], float]:
    changes = ("stages.all.drop_path=0", "sampling=volumes", f"batch_size={BATCH}")
    config, model = load_config(None, changes=changes), _new_model(encoder)
    set_trainable(model, config.stages.all)
    count = len(lines)
    table = FeatureTable(
        x=np.zeros((count, 1), np.float32), y=np.arange(count) % CLASSES,
        volume=np.array([line.ref.volume for line in lines]),
        participant=np.array([f"{number}" for number in range(count)]), eye=np.array(["L"] * count),
        protocol=np.array(["p"] * count), split=np.array(["train"] * count), names=(), space="",
    )  # fmt: skip
    alike = NOTHING.model_copy(update={name: getattr(AugmentConfig(), name) for name in ALIKE})
    dataset = VolumeDataset(
        table, images, np.zeros(count, np.int64), np.ones(count), CLASSES, Augmenter(alike, 1.0, (0,))
    )
    feed, optimiser = VolumeFeed(dataset, CpuBackend("fp32")), new_optimiser(model, config.stages.all)
    trainer = Trainer(
        model, config, CLASSES, 0, CpuBackend("fp32"), OneProcess(), BestWeights(), tell=lambda line: None
    )
    return lambda: _run_epoch(trainer, Alone(model), optimiser, feed, Position("all"))[0]


def _plain_epoch(encoder: Encoder, read: Callable[[int], np.ndarray], count: int) -> Callable[[], float]:
    """Write what a MONAI tutorial would: a Compose, a loop, AdamW over everything."""
    from monai.transforms import Compose, NormalizeIntensity, RandAdjustContrast, RandAffine, RandGaussianNoise

    change = Compose([
        RandAffine(prob=1.0, rotate_range=(0.087, 0.087, 0.0), scale_range=(0.05, 0.05, 0.05),
                   translate_range=(1, 3, 3), padding_mode="border"),
        RandAdjustContrast(prob=1.0, gamma=(0.8, 1.2)),
        RandGaussianNoise(prob=1.0, std=0.1),
        NormalizeIntensity(),
    ])  # fmt: skip
    model = _new_model(encoder).requires_grad_(requires_grad=True)
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def epoch() -> float:
        total = 0.0
        order = np.random.default_rng(0).permutation(count)
        for start in range(0, count, BATCH):
            rows = order[start : start + BATCH]
            volumes = torch.stack([torch.as_tensor(change(read(int(row)))) for row in rows])
            loss = nn.functional.cross_entropy(
                model(volumes, torch.zeros(len(rows), dtype=torch.long)), torch.from_numpy(rows % CLASSES)
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        return total / count

    return epoch


def _both_learn(ours: float, theirs: float) -> str:
    """Augmentation draws other numbers in each, so the losses are near, not equal: from one start, ln 2 of two."""
    if abs(ours - theirs) > 0.1:
        raise ValueError(f"the first epochs disagree: loss {ours:.3f} and {theirs:.3f}")
    return f"loss of the first epoch {ours:.3f} and {theirs:.3f}"
