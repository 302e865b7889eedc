"""The seam between a case page and what explains a participant: a probe on stored tokens, or a fine-tuned encoder.

::

    Explainer   the seam: ProbeExplainer (probed), FinetunedExplainer (finetuned)
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pandas as pd

from reports.cases.scans import ScanCase

UNIT_PARTS = ("participant", "eye", "volume")
"""What a unit is named by, at any level."""


@dataclass(frozen=True)
class Explained:
    """What a model says of one participant, and why.

    table: one line a volume, eye and participant, as ``classify predict`` writes them. probability: of the judged unit,
    in the order of the classes. target: the number of the likeliest class, which the scans explain.
    """

    table: pd.DataFrame
    probability: list[float]
    target: int
    scans: list[ScanCase]


@runtime_checkable
class Explainer(Protocol):
    """Explains the participants of one run."""

    def volumes_of(self, participant: str) -> pd.DataFrame:
        """Return participant, eye and volume of what a page could be made from, whether or not the run knows it."""
        ...

    def explain(self, participant: str, unit: str) -> Explained:
        """Predict a participant's scans, and say what each of the unit's gave.

        Raises: UsageError where there is none; RunError.
        """
        ...
