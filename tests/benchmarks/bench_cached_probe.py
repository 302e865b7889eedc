"""P10: a probe on stored embeddings, against encoding the same volumes once: one epoch of the earlier way."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from comparison import Row
from settings import Settings

from extract.encoder.random_init import ARCHITECTURES, random_twin

SCRIPTS = Path(sys.executable).parent
FULL = ARCHITECTURES["base"]
PLAIN_SEARCH = ("--layer", "last", "--pool", "mean", "--aggregate", "mean-logits", "--replicates", "100")
"""Of the quick form: one candidate of what a layer and its pools are, in place of all."""


def measure(settings: Settings) -> list[Row]:
    participants, rounds = (32, 1) if settings.quick else (100, 2)
    bucket = settings.folder / "bucket"
    _call("oct-phantom", "--out", bucket, "--participants", participants, "--scale", 0.06, "--effect", 8,
          "--devices", "zeiss_cirrus,heidelberg_spectralis", "--workers", 1, "--json")  # fmt: skip
    stored, encoded, probed = 0, [], []
    for number in range(rounds):
        store = settings.folder / f"store-{number}"
        seconds, summary = _timed(
            "extract-embeddings", "--bucket", bucket, "--store", store, "--encoder", "random:tiny",
            "--tokens", "none", "--device", "cpu", "--json",
        )  # fmt: skip
        encoded += [seconds]
        stored = summary["committed"]
        assert stored == summary["selected"] > 0, f"expected a row for every volume, got {summary}"
        search = PLAIN_SEARCH if settings.quick else ()
        probed += [_probe(bucket, settings.folder / "store-0", settings.folder / f"runs-{number}", stored, search)]
    work = f"classify probe --model lgbm on {stored} stored phantom volumes"
    tiny = Row(
        id="P10", work=work, peer="encoding them once with random:tiny (extract-embeddings, tokens none)", unit="s",
        ours=median(probed), peer_value=median(encoded), rounds=rounds, notes="both are whole commands, start included",
    )  # fmt: skip
    if settings.quick:  # a forward at full size takes longer than all else
        return [tiny]
    forward, how = _full_forward(settings)
    full = Row(
        id="P10", work=work, peer="encoding them once at full size (64x384x384, width 768, depth 12)", unit="s",
        ours=median(probed), peer_value=forward * stored, rounds=rounds,
        notes=f"peer extrapolated: {stored} forwards of {forward:.0f} s ({how}), without reading",
    )  # fmt: skip
    return [tiny, full]


def _probe(bucket: Path, store: Path, runs: Path, stored: int, search: tuple[str, ...]) -> float:
    seconds, record = _timed(
        "classify", "probe", "--model", "lgbm", "--store", store, "--participants", bucket / "participants.tsv",
        "--runs", runs, "--json", *search,
    )  # fmt: skip
    assert record["phantom"] is True
    assert record["snapshot"]["rows"] == stored
    return seconds


def _full_forward(settings: Settings) -> tuple[float, str]:
    """Give the seconds of one full-size forward, and how they were found.

    Twelve equal blocks are nearly all of it, so the difference between one block and two is measured, not minutes.
    """
    if settings.full:
        return _forward_seconds(FULL.depth), "one measured"
    one, two = _forward_seconds(1), _forward_seconds(2)
    return one + (FULL.depth - 1) * max(two - one, 0.0), "from forwards of 1 and 2 of the 12 blocks"


def _forward_seconds(depth: int) -> float:
    encoder = random_twin(replace(FULL, depth=depth), 0, "random")
    volume = torch.randn(1, 1, *FULL.image_size, generator=torch.Generator().manual_seed(0))
    start = perf_counter()
    with torch.no_grad():
        encoder.module(volume)
    return perf_counter() - start


def _timed(name: str, *arguments: object) -> tuple[float, dict[str, Any]]:
    start = perf_counter()
    found = _call(name, *arguments)
    return perf_counter() - start, found


def _call(name: str, *arguments: object) -> dict[str, Any]:
    command = [str(SCRIPTS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name}: exit code {done.returncode}\n{done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
