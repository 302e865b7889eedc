"""The whole line finds an effect that is there, and none where there is none (all data: SYNTHETIC PHANTOM)."""

from pathlib import Path
from typing import Any

import pytest
from command_line import Command

from classify.heads import HEADS

CHANCE = {"balanced_accuracy": 0.25, "macro_auroc": 0.5}

# A 95 % interval misses in one of twenty cohorts. Without an effect, seeds 1 to 7 gave 42 intervals (three heads, two
# metrics), of which 40 held chance: seed 3 missed with mlp, seed 5 with linear. The test pins a seed that holds.
SEED = 4
QUICK = ("dummy", "linear", "lgbm", "tokens-linear")
OTHERS = tuple(head for head in HEADS if head not in QUICK)
Form = tuple[int, tuple[str, ...], str, int]
"""Participants, protocols, what an encoder sees of a volume, and replicates."""

MACULAR = ("--protocols", "cirrus_mac,spectralis_ppol_mac_hr")
SMALL: Form = (100, MACULAR, "16,64,64", 300)
LARGE: Form = (150, ("--devices", "zeiss_cirrus,heidelberg_spectralis"), "32,96,96", 1000)
"""The 42 intervals were of the large form. Of the small one, seeds 4 to 8 gave 30, and one only touched chance; seeds
4 to 6 found the effect with both heads."""


def study(folder: Path, command: Command, form: Form, effect_um: int) -> Path:
    """Generate a phantom bucket with this effect and encode it."""
    participants, protocols, image_size, _ = form
    phantom = command(
        *("oct-phantom", "--out", folder / "bucket", "--participants", participants, "--scale", "0.06"),
        *(*protocols, "--effect", effect_um, "--seed", SEED),
    )
    assert phantom.code == 0, phantom.stderr
    store = ("--store", folder / "store", "--encoder", "random:tiny", "--tokens", "4x2x2", "--image-size", image_size)
    encoded = command("extract-embeddings", "--bucket", folder / "bucket", *store)
    assert encoded.code == 0, encoded.stderr
    return folder


def probe(folder: Path, command: Command, form: Form, model: str) -> dict[str, Any]:
    """Give the participant-level metrics on val."""
    done = command(
        *("classify", "probe", "--model", model, "--store", folder / "store", "--runs", folder / "runs", "--json"),
        *("--participants", folder / "bucket" / "participants.tsv", "--replicates", form[3]),
    )
    assert done.code == 0, done.stderr
    record = done.json
    assert record["phantom"] is True
    metrics: dict[str, Any] = record["metrics"]["participant"]["val"]
    return metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "models"), [(SMALL, QUICK), pytest.param(LARGE, OTHERS, marks=pytest.mark.long)], ids=["quick", "others"]
)
def test_no_effect_no_head_finds_one(tmp_path: Path, command: Command, form: Form, models: tuple[str, ...]) -> None:
    folder = study(tmp_path, command, form, effect_um=0)
    for model in models:
        metrics = probe(folder, command, form, model)
        for name, chance in CHANCE.items():
            assert metrics[name]["low"] <= chance <= metrics[name]["high"], f"{model}: {name} {metrics[name]}"


@pytest.mark.slow
def test_an_effect_is_found(tmp_path: Path, command: Command) -> None:
    folder = study(tmp_path, command, SMALL, effect_um=12)
    for model in ("linear", "lgbm"):
        assert probe(folder, command, SMALL, model)["macro_auroc"]["low"] > CHANCE["macro_auroc"]
    assert probe(folder, command, SMALL, "dummy")["macro_auroc"]["value"] == CHANCE["macro_auroc"]
