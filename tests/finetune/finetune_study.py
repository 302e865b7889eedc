"""A small phantom bucket to fine-tune on, and runs of the verb on it."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from extract.options import EncoderChoice
from extract.phantom.broken import KINDS
from extract.phantom.bucket import generate
from extract.phantom.plan import parse_plan
from finetune.config import FinetuneConfig, load_config
from finetune.train import Finetuned, FinetuneOptions, finetune

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
IMAGE_SIZE = (4, 32, 32)
TINY = EncoderChoice(None, "random:tiny", image_size=IMAGE_SIZE)
SHORT: FinetuneConfig = load_config(None, epochs=2)


def make_bucket(out: Path) -> Path:
    """Sixteen participants, both eyes, one scan each: every class is in train and in val."""
    plan = parse_plan(
        participants=16, devices=("zeiss_cirrus",), protocols=(), scale=0.02, syntax="explicit", effect_um=20.0,
        effect_sector=None, confound=None, schema="v2", manifest=False, breaks=(), kinds=tuple(KINDS), seed=5,
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


def run(bucket: Path, runs: Path, **changes: Any) -> Finetuned:
    asked: dict[str, Any] = {
        "choice": TINY, "bucket": str(bucket), "participants": bucket / "participants.tsv", "config": SHORT,
        "device": "cpu", "replicates": 20, "runs": runs,
    }  # fmt: skip
    return finetune(FinetuneOptions(**(asked | changes)), now=NOW, tell=lambda line: None)
