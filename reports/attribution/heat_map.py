"""A map of a scan as pages paint it and viewers open it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class HeatMap:
    """One map over a token grid. name: short, for files and switches; title: in words.

    in_evidence: in units of the evidence for a class, so that all scans of a case share one scale; else only the order
    within the scan counts.
    """

    name: str
    title: str
    values: Float64[np.ndarray, "gd gh gw"]
    in_evidence: bool = True
