"""The two sentences of the tutorial's control are true: the effect is found, and without it chance is not excluded.

tests/docs/test_blocks.py asks it of the page's own seed, where it types the page.
"""

import re
from pathlib import Path

import pytest

from classify.options import ProbeOptions
from classify.probe import probe
from classify.run.estimate import Estimate
from embeddings_store.snapshot import read_features_source
from extract.options import ExtractOptions
from extract.phantom.broken import KINDS
from extract.phantom.bucket import generate
from extract.phantom.plan import parse_plan
from extract.pipeline import extract

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
SEEDS = (1, 2, 3, 4, 5)


def options_of_the_page() -> tuple[int, float, float, str]:
    """Read participants, scale, effect and task, which both phantoms and all probes of the page share, as the seed."""
    text = TUTORIAL.read_text()
    numbers = []
    for name in ("participants", "scale", "effect", "seed"):
        (said,) = set(re.findall(rf"oct-phantom .*--{name} (\S+)", text))
        numbers.append(float(said))
    (task,) = set(re.findall(r"classify probe .*--task (\S+)", text))
    return int(numbers[0]), numbers[1], numbers[2], task


def auroc(folder: Path, effect_um: float, seed: int) -> Estimate:
    """Go the way of the page: a phantom, a store, a linear probe."""
    from datetime import UTC, datetime

    participants, scale, _, task = options_of_the_page()
    plan = parse_plan(
        participants=participants, devices=("zeiss_cirrus",), protocols=(), scale=scale, syntax="explicit",
        effect_um=effect_um, effect_sector=None, confound=None, schema="v2", manifest=True, breaks=(),
        kinds=tuple(KINDS), seed=seed,
    )  # fmt: skip
    bucket, store = folder / "bucket", folder / "store"
    generate(plan, bucket, 1, lambda: None)
    extract(ExtractOptions(bucket=str(bucket), store=str(store), encoder="random:tiny", device="cpu"))
    options = ProbeOptions(
        store="store", model="linear", participants=bucket / "participants.tsv", task=task, runs=folder / "runs"
    )
    done = probe(options, now=datetime(2026, 11, 29, tzinfo=UTC), read=lambda *_: read_features_source(str(store)))
    found = done.record.judged.metrics["participant"]["val"]["macro_auroc"]
    assert not found.too_few
    return found


def holds(folder: Path, seed: int) -> tuple[bool, bool]:
    """Say whether the effect's interval lies above chance, and whether that of the control holds it."""
    _, _, effect_um, _ = options_of_the_page()
    effect, control = (auroc(folder / name, um, seed) for name, um in (("effect", effect_um), ("control", 0.0)))
    return effect.low > 0.5, control.low < 0.5 < control.high


@pytest.mark.long
def test_they_hold_with_other_seeds(tmp_path: Path) -> None:
    """The effect is found with each; of five intervals of 95 %, two that miss the truth would be a surprise (2 %)."""
    found = [holds(tmp_path / str(seed), seed) for seed in SEEDS]
    assert all(effect for effect, _ in found)
    assert sum(control for _, control in found) >= len(SEEDS) - 1
