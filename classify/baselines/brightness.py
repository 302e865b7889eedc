"""How bright the scans of a participant are: raw intensities without any encoder, a baseline of its own."""

import numpy as np
import pandas as pd
from jaxtyping import Float32

from classify.cohort.table import BRIGHTNESS, Cohort
from classify.features.standardise import Standardiser


def brightness_of_units(cohort: Cohort, split: str) -> pd.DataFrame | None:
    """Return unit and the columns of BRIGHTNESS: the mean over a unit's eyes of the mean over an eye's scans.

    Standardised within protocol on train, as the embedding is. Volumes whose brightness the store does not know are
    left out; None where it knows that of none in train.
    """
    if cohort.brightness is None:
        return None
    rows = (
        cohort.table[["volume", "eye", "protocol", "split"]]
        .assign(unit=cohort.unit)
        .merge(cohort.brightness, on="volume")
    )
    rows = rows.loc[np.isfinite(rows[list(BRIGHTNESS)].to_numpy(np.float64)).all(axis=1)]
    train, wanted = rows[rows["split"] == "train"], rows[rows["split"] == split]
    if train.empty:
        return None
    standardiser = Standardiser.fit(_values(train), train["protocol"].to_numpy(str))
    standard = standardiser.transform(_values(wanted), wanted["protocol"].to_numpy(str)).astype(np.float64)
    scans = pd.DataFrame(standard, columns=list(BRIGHTNESS), index=wanted.index)
    eyes = scans.groupby([wanted["unit"], wanted["eye"]]).mean()
    return eyes.groupby("unit").mean().reset_index()


def _values(rows: pd.DataFrame) -> Float32[np.ndarray, "n 5"]:
    return rows[list(BRIGHTNESS)].to_numpy(np.float32)
