"""The answer to a participant, out of the lines of a prediction table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def likeliest(table: pd.DataFrame, classes: Sequence[str]) -> tuple[list[float], int]:
    """Give the participant's probabilities in the order of the classes, and the number of the likeliest class."""
    person = person_line(table)
    probability = [float(person[f"probability_{name}"]) for name in classes]
    return probability, int(np.argmax(probability))


def person_line(table: pd.DataFrame) -> pd.Series:
    """Give the participant's own line."""
    return table[table["level"] == "participant"].iloc[0]
