"""The answer to a case, out of the lines of a prediction table. A case is a judged unit: a participant, eye or scan."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from classify.cohort.units import name_units


def likeliest(table: pd.DataFrame, unit: str, classes: Sequence[str]) -> tuple[list[float], int]:
    """Return the unit's probabilities in the order of the classes, and the number of the likeliest class.

    Of a number, which has no classes, no probability and 0.
    """
    if not classes:
        return [], 0
    line = unit_line(table, unit)
    probability = [float(line[f"probability_{name}"]) for name in classes]
    return probability, int(np.argmax(probability))


def unit_line(table: pd.DataFrame, unit: str) -> pd.Series:
    """Return the unit's own line: that of the judged level, which stands last."""
    line: pd.Series = table[(table["level"] == table["level"].iloc[-1]) & (table["unit"] == unit)].iloc[0]
    return line


def of_unit(lines: pd.DataFrame, level: str, unit: str) -> Bool[np.ndarray, " n"]:
    """Mark the volumes that belong to a unit of a level."""
    names = (lines[name].to_numpy(str) for name in ("participant", "eye", "volume"))
    return np.asarray(name_units(level, *names) == unit)
