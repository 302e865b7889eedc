"""A small study whose target is a number that the embeddings know, or do not: its labels, one line a participant."""

from pathlib import Path

import numpy as np
import pandas as pd
from classify_study import PROTOCOLS, Study

TARGET = "thickness"
CENTRE = 300.0


def number_of_people(study: Study, *, effect: float, noise: float = 3.0, seed: int = 0) -> "pd.Series[float]":
    """Give a number for every participant: effect per unit of the first channel, around CENTRE."""
    index, last = study.stored.index, study.stored.pooled[:, 1, 0, 0].astype(np.float64)
    own = pd.Series(last - 20.0 * (index["device"] == PROTOCOLS[0][0])).groupby(index["participant"]).mean()
    drawn = np.random.default_rng(seed).normal(0, noise, len(own))
    return (CENTRE + effect * own + drawn).round(4)


def write_labels(study: Study, folder: Path, number: "pd.Series[float] | pd.Series[str]") -> Path:
    """Write labels.csv with the split, age and site of everybody."""
    people = study.people.set_index("participant_id").loc[number.index]
    table = pd.DataFrame(
        {
            "participant": number.index,
            TARGET: number.to_numpy(),
            "split": people["recommended_split"].to_numpy(),
            "age": people["age"].to_numpy(),
            "site": people["clinical_site"].to_numpy(),
        }
    )
    path = folder / "labels.csv"
    table.to_csv(path, index=False)
    return path
