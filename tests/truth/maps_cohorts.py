"""What the deletion check of a map can tell: how often right, half-wrong and wholly wrong maps beat random orders.

The evidence is a sum over regions, so the right map is known; wrong ones have a share of their values permuted.
"""

from collections.abc import Iterator

import numpy as np
from kept_results import Kept

from reports.attribution.faithfulness import faithfulness_curves

WRONG = (0.0, 0.5, 0.75, 1.0)
REGIONS = (32, 128)
PASSES = 0.95
"""Of random orders beaten: what a reader takes for a pass."""


def beats(regions: int, wrong: float, seed: int) -> float:
    """Give the share of random orders that a map beats by deletion; ``wrong`` of its shares are permuted."""
    rng = np.random.default_rng([seed, regions, int(100 * wrong)])
    shares = rng.normal(size=regions) * rng.lognormal(0, 1, regions)
    chosen = rng.permutation(regions)[: round(wrong * regions)]
    shown = shares.copy()
    shown[chosen] = shares[rng.permutation(chosen)]
    return faithfulness_curves(shown, lambda kept: kept.astype(np.float64) @ shares, rng=rng).deletion_beats


def table(long: bool, kept: Kept) -> Iterator[str]:
    """Give the lines of the table."""
    yield "| shares of the map that are permuted | " + " | ".join(f"{regions} regions" for regions in REGIONS) + " |"
    yield "|---|" + "---|" * len(REGIONS)
    for wrong in filter(lambda one: kept.wants(f"{100 * one:.0f} %"), WRONG):
        cells = []
        for regions in REGIONS:
            seeds = range(300 if long else 20)
            found = np.array(
                kept.of(
                    f"{regions} regions, {wrong}, {len(seeds)}",
                    lambda regions=regions, wrong=wrong, seeds=seeds: [beats(regions, wrong, seed) for seed in seeds],
                )
            )
            cells.append(f"beats {100 * found.mean():.0f} %, passes {100 * (found >= PASSES).mean():.0f} %")
        yield f"| {100 * wrong:.0f} % | " + " | ".join(cells) + " |"
