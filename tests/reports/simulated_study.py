"""What stands in for a store in the tests of the study page."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from classify.features.table import FeatureTable
from classify.run.folder import Run
from reports.coverage import StoreFacts, coverage_rows

NOW = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
SPACE = "5bace00000000001"


def simulated_facts(space: str = SPACE) -> StoreFacts:
    """700 volumes: 608 with an embedding, 22 errors of two classes, 70 not tried."""
    axes = {
        "site": {"UW": (300, 10, 30), "UCSD": (200, 12, 20), "UAB": (108, 0, 20)},
        "device": {"heidelberg_spectralis": (300, 4, 30), "topcon_triton": (308, 18, 40)},
        "protocol": {"spectralis_mac": (300, 4, 30), "triton_mac": (308, 18, 40)},
        "eye": {"L": (304, 11, 35), "R": (304, 11, 35)},
    }
    names = ("committed", "errors", "missing")
    return StoreFacts(
        address="s3://study/store",
        space=space,
        embedding_space={"family": "vjepa3d", "precision": "fp32", "weights_sha256": "ab" * 32},
        indexed=700,
        committed=608,
        errors_by_class={"DecodeError": 20, "TruncatedObject": 2},
        coverage={
            axis: coverage_rows({v: dict(zip(names, counts, strict=True)) for v, counts in values.items()})
            for axis, values in axes.items()
        },
    )


FEATURES = "features_for_tests.npz"


def simulated_features(run: Run) -> FeatureTable:
    """The features that the simulated booster was trained on."""
    saved = np.load(run.folder / FEATURES)
    cohort = run.cohort
    text = {name: cohort[name].to_numpy(str) for name in ("volume", "participant", "eye", "protocol", "split")}
    return FeatureTable(
        x=saved["x"].astype(np.float32),
        y=cohort["label"].to_numpy(np.int64),
        names=tuple(str(name) for name in saved["names"]),
        space=run.record.asked.space,
        **text,
    )


FeaturesOf = Callable[[Run], FeatureTable]
