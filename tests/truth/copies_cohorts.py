"""How often are copies of scans under another participant named, and honest scans left alone?

Vectors with noise, and files of a phantom that were encoded again, brightened or mirrored and went through extraction.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from copied_phantom import WAYS, copy_scan
from kept_results import Kept
from simulated_scans import simulate_scans

from classify.cohort.near_copies import find_near_copies, look_for_copies
from embeddings_store.snapshot import read_features_source
from extract.options import ExtractOptions
from extract.phantom.broken import KINDS
from extract.phantom.bucket import generate
from extract.phantom.plan import parse_plan
from extract.pipeline import extract

NOISES = (1e-7, 1e-5, 1e-3, 1e-2, 5e-2)
COPIES, PEOPLE = 10, 40
DEVICE = "heidelberg_spectralis"
EACH = "each file"

Found = dict[str, tuple[int, int]]
"""What was done to copies: how many were named, of how many. Of "nothing": honest pairs that were named."""


def name_noisy(seed: int, noise: float) -> tuple[int, int]:
    """Copy ten scans of 200 people, with noise on their vectors. Returns how many pairs are named: copies, honest."""
    rng = np.random.default_rng([seed, 11])
    vectors, participant = simulate_scans(rng, 200, scans=1 + 3 * (seed % 2))
    rows = rng.choice(len(vectors), COPIES, replace=False)
    copied = vectors[rows] + noise * vectors.std(axis=0) * rng.standard_normal((COPIES, vectors.shape[1]))
    both = np.concatenate([vectors, copied.astype(np.float32)])
    found = find_near_copies(both, np.concatenate([participant, [f"9{one:03d}" for one in range(COPIES)]]))
    made = {(int(row), len(vectors) + number) for number, row in enumerate(rows)}
    named = {(one.first, one.second) for one in found}
    return len(named & made), len(named - made)


def honest_alarms(seed: int) -> int:
    """Count pairs named among 1,000 honest people with four scans an eye."""
    return len(find_near_copies(*simulate_scans(np.random.default_rng([seed, 13]), 1000, scans=4)))


def name_files(seed: int) -> Found:
    """Copy a phantom's files in every way, each under somebody else, extract all, and look for copies."""
    with TemporaryDirectory() as folder:
        bucket, store = Path(folder) / "bucket", Path(folder) / "store"
        plan = parse_plan(
            participants=PEOPLE, devices=(DEVICE,), protocols=(), scale=0.08, syntax="explicit", effect_um=0.0,
            effect_sector=None, confound=None, schema="v2", manifest=False, breaks=(), kinds=tuple(KINDS), seed=seed,
        )  # fmt: skip
        generate(plan, bucket, 1, lambda: None)
        scans = bucket / "retinal_oct" / "structural_oct" / DEVICE
        people = np.random.default_rng(seed).permutation(sorted(path.name for path in scans.iterdir()))
        pairs = {}
        for number, way in enumerate(WAYS):
            source, other = people[number], people[-1 - number]
            copy_scan(sorted((scans / source).glob("*.dcm"))[number % 2], other, way, number)
            pairs[way] = {source, other}
        extract(ExtractOptions(bucket=str(bucket), store=str(store), encoder="random:tiny", device="cpu"))
        stored = read_features_source(str(store))
    who = stored.index["participant"].to_numpy(str)[np.argsort(stored.index["row"].to_numpy())]
    found = look_for_copies(stored.pooled.reshape(len(stored.pooled), -1), who, stored.thumbnails).found
    named = [{who[one.first], who[one.second]} for one in found]
    honest = sum(pair not in pairs.values() for pair in named)
    return {way: (int(pair in named), 1) for way, pair in pairs.items()} | {"nothing": (honest, 0)}


def table(long: bool, kept: Kept) -> Iterator[str]:
    """Give the lines of the table."""
    yield "| copies | studies | named | honest pairs named |"
    yield "|---|---|---|---|"
    for noise in filter(lambda one: kept.wants(f"noise {one:g}"), NOISES):
        seeds = range(20 if long else 2)
        parts = [kept.of(f"noise {noise} {seed}", lambda n=noise, seed=seed: name_noisy(seed, n)) for seed in seeds]
        named, wrong = np.sum(parts, axis=0)
        yield f"| of vectors, noise {noise:g} | {len(seeds)} | {named} of {COPIES * len(seeds)} | {wrong} |"
    if kept.wants("none"):
        seeds = range(5 if long else 1)
        wrong = sum(kept.of(f"none {seed}", lambda seed=seed: honest_alarms(seed)) for seed in seeds)
        yield f"| none, 1,000 people with four scans an eye | {len(seeds)} | | {wrong} |"
    if kept.wants(EACH):
        seeds = range(10 if long else 1)
        files = [kept.of(f"{EACH} {seed}", lambda seed=seed: name_files(seed)) for seed in seeds]
        for way in WAYS:
            named = sum(one[way][0] for one in files)
            yield f"| of a phantom's files, {way} | {len(seeds)} | {named} of {len(seeds)} | |"
        yield f"| all of these | {len(seeds)} | | {sum(one['nothing'][0] for one in files)} |"
