"""Whose a label is: a participant, an eye or a volume; and how each of them is called."""

import numpy as np
from jaxtyping import Shaped

PARTICIPANT, EYE, VOLUME = "participant", "eye", "volume"


def name_eyes(participant: Shaped[np.ndarray, " n"], eye: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Name the eye of each volume: "participant:eye"."""
    return np.strings.add(np.strings.add(participant, np.full(len(eye), ":")), eye)


def name_units(
    level: str,
    participant: Shaped[np.ndarray, " n"],
    eye: Shaped[np.ndarray, " n"],
    volume: Shaped[np.ndarray, " n"],
) -> Shaped[np.ndarray, " n"]:
    """Name the unit of each volume at a level: its participant, its eye, or itself."""
    return {PARTICIPANT: lambda: participant, EYE: lambda: name_eyes(participant, eye), VOLUME: lambda: volume}[level]()
