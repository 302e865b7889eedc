"""A case page of a simulated run, whose explainer only gives a table of predictions."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from simulated_study import NOW

from reports.case import Opened, write_cases
from reports.cases.explained import Explained
from reports.options import CaseOptions
from reports.runs import FinishedRun, read_runs


class TableExplainer:
    """Says the same of everybody: the first class, by 60 %."""

    def __init__(self, run: FinishedRun, split_of_run: str) -> None:
        self.run, self.split = run, split_of_run

    def volumes_of(self, participant: str) -> pd.DataFrame:
        here = [participant] if participant != "nobody" else []
        return pd.DataFrame({"participant": here, "eye": ["L"] * len(here), "volume": ["v"] * len(here)}, dtype=str)

    def explain(self, participant: str, unit: str) -> Explained:
        classes = self.run.classes
        shares = [0.6, *[0.4 / (len(classes) - 1)] * (len(classes) - 1)]
        line = {
            **{f"probability_{name}": share for name, share in zip(classes, shares, strict=True)},
            "participant": participant,
            "eye": "L",
            "protocol": "triton_mac",
            "flags": "",
            "reason": "",
            "abstain": False,
            "predicted": classes[0],
            "confidence": 0.6,
            "ood_percentile": np.nan,
            "split_of_run": self.split,
        }
        table = pd.DataFrame(
            [line | {"level": level, "unit": of} for level, of in (("volume", "v"), ("participant", unit))]
        )
        return Explained(table, shares, 0, [])


def write_simulated_case(runs: Path, out: Path, *, split_of_run: str, person: str = "") -> str:
    """Write the page of the first validation participant or of the named one.

    split_of_run: "" where its scans are not the run's.
    """
    (run,) = read_runs(runs)
    cohort = run.run.cohort
    person = person or str(cohort.loc[cohort["split"] == "val", "participant"].iloc[0])
    with patch("reports.case.open_explainer", lambda *_: TableExplainer(run, split_of_run)):
        (case,) = write_cases(CaseOptions(runs=runs, out=out, participants=(person,)), Opened(None, None), now=NOW)
    return case.page.read_text()
