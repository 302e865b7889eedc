"""A small phantom bucket to fine-tune on, runs of the verb on it, and small parts to put a loop together from."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable
from embeddings_store.index import IndexRow
from embeddings_store.schema import Eye, Note, ParticipantId, RowFacts, VolumeRef, volume_id
from extract.device.cpu import CpuBackend
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import ARCHITECTURES, random_encoder, random_twin
from extract.encoder_options import EncoderChoice
from extract.load import LoadedVolume
from extract.phantom.broken import KINDS
from extract.phantom.bucket import generate
from extract.phantom.plan import parse_plan
from finetune.data.augment.augmenter import Augmenter
from finetune.data.dataset import VolumeDataset
from finetune.data.feeds import VolumeFeed
from finetune.data.images import ImageCache
from finetune.data.sampling import loss_weights
from finetune.model.network import VolumeClassifier
from finetune.options import FinetuneOptions
from finetune.parallel.processes import OneProcess
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.load import load_config
from finetune.train import Finetuned, finetune
from finetune.training.epochs import BestWeights
from finetune.training.loop import Trainer

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
IMAGE_SIZE = (4, 32, 32)
TINY = EncoderChoice(encoder="random:tiny", image_size=IMAGE_SIZE)
PLAIN = ("stages.last.augment=0", "stages.all.augment=0", "stages.last.drop_path=0", "stages.all.drop_path=0")
SHORT: FinetuneConfig = load_config(None, changes=PLAIN, epochs=2)


def make_bucket(out: Path, *, participants: int = 16, effect_um: float = 20.0, scale: float = 0.02) -> Path:
    """Participants with both eyes, one scan each; of sixteen, every class is in train and in val."""
    plan = parse_plan(
        participants=participants, devices=("zeiss_cirrus",), protocols=(), scale=scale, syntax="explicit",
        effect_um=effect_um, effect_sector=None, confound=None, schema="v2", manifest=False, breaks=(),
        kinds=tuple(KINDS), seed=5,
    )  # fmt: skip
    generate(plan, out, 1, lambda: None)
    return out


def table(bucket: Path) -> pd.DataFrame:
    return pd.read_csv(bucket / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)


def scans(bucket: Path, split: str) -> list[Path]:
    """The files of a split, sorted by their keys."""
    people = table(bucket)
    wanted = set(people.loc[people["recommended_split"] == split, "participant_id"])
    return sorted(path for path in bucket.rglob("*.dcm") if path.parent.name in wanted)


def copy_of(bucket: Path, out: Path) -> Path:
    return Path(shutil.copytree(bucket, out))


def options(bucket: Path, runs: Path, /, **changes: Any) -> FinetuneOptions:
    asked: dict[str, Any] = {
        **TINY.arguments(), "bucket": str(bucket), "participants": bucket / "participants.tsv", "config": SHORT,
        "device": "cpu", "replicates": 20, "runs": runs,
    }  # fmt: skip
    return FinetuneOptions(**(asked | changes))


def run(bucket: Path, runs: Path, /, **changes: Any) -> Finetuned:
    done = finetune(options(bucket, runs, **changes), now=NOW, tell=lambda line: None)
    assert done is not None
    return done


def small_encoder(seed: int = 0, depth: int = 2) -> Encoder:
    """Two blocks of width 48: a training step takes milliseconds."""
    tiny = random_encoder("random:tiny", IMAGE_SIZE).architecture
    shape = {name: getattr(tiny, name) for name in ("family", "image_size", "patch")}
    architecture = type(tiny)(**shape, width=48, depth=depth, heads=3, mlp_width=96)
    assert set(ARCHITECTURES) >= {"tiny", "base"}
    return random_twin(architecture, seed, "small")


def plain_standardiser(encoder: Encoder) -> Standardiser:
    shape = (1, encoder.architecture.width)
    return Standardiser((), np.zeros(shape), np.ones(shape))


def write_volumes(images: ImageCache, volumes: np.ndarray) -> list[str]:
    """Keep volumes [n, 1, D, H, W] under ids of their own."""
    ids = []
    for row, image in enumerate(volumes):
        ref = VolumeRef(f"{row}.dcm", 1, "", volume_id(f"{row}.dcm"), ParticipantId("1001"), Eye.LEFT, "d", "p")
        facts = RowFacts(4, 32, 32, None, Eye.LEFT, Note.NONE)
        images.write(LoadedVolume(IndexRow(row, ref), image.astype(np.float32), facts, b"", 1))
        ids.append(str(ref.volume))
    return ids


def rows_of(
    y: Sequence[int], split: str, volumes: Sequence[str], people: Sequence[str] | None = None, x: Any = None
) -> FeatureTable:
    count = len(y)
    return FeatureTable(
        x=np.zeros((count, 1), np.float32) if x is None else x.astype(np.float32), y=np.array(y, np.int64),
        volume=np.array(volumes), participant=np.array(people or [f"{1000 + n}" for n in range(count)]),
        eye=np.array(["L"] * count), protocol=np.array(["cirrus_mac"] * count), split=np.array([split] * count),
        names=(), space="",
    )  # fmt: skip


def feed_of(
    images: ImageCache, rows: FeatureTable, config: FinetuneConfig, classes: int, augmenter: Augmenter | None = None
) -> VolumeFeed:
    weights = loss_weights(rows, config.sampling, class_weights=config.class_weights)
    group = np.zeros(len(rows.y), np.int64)
    return VolumeFeed(VolumeDataset(rows, images, group, weights, classes, augmenter), CpuBackend("fp32"))


def trainer_of(model: VolumeClassifier, config: FinetuneConfig, classes: int, **changes: Any) -> Trainer:
    parts: dict[str, Any] = {
        "model": model, "config": config, "classes": classes, "seed": 0, "backend": CpuBackend("fp32"),
        "processes": OneProcess(), "best": BestWeights(), "tell": lambda line: None,
    }  # fmt: skip
    return Trainer(**(parts | changes))
