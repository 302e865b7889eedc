"""The prevalence that probabilities are stated at: class shares, read, counted, and moved between.

A designed split is not nature: AI-READI's val and test hold the classes in nearly equal numbers, its train does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from classify.cohort.table import Cohort
from embeddings_store.errors import UsageError

OF_COHORT = "train and val of the cohort"
OF_OPTION = "--prevalence"
LEARNED_ON = ("train", "val")


@dataclass(frozen=True)
class Prevalence:
    """Class shares that sum to 1, in the order of the classes, and where they come from."""

    shares: tuple[float, ...]
    source: str


def state_prevalence(asked: str | None, cohort: Cohort) -> Prevalence:
    """Return --prevalence, or the class shares of all that is judged in train and val. Raises: UsageError."""
    classes = cohort.task.classes
    if asked is not None:
        return Prevalence(read_shares(asked, classes), OF_OPTION)
    known = cohort.table.assign(unit=cohort.unit)[cohort.table["split"].isin(LEARNED_ON)].drop_duplicates("unit")
    counted = np.bincount(known["label"].to_numpy(np.int64), minlength=len(classes)).astype(np.float64)
    return Prevalence(tuple((counted / counted.sum()).tolist()), OF_COHORT)


def read_shares(text: str, classes: Sequence[str]) -> tuple[float, ...]:
    """Read ``class=share,class=share``: each class once, shares above 0 that sum to 1. Raises: UsageError.

    >>> read_shares("healthy=0.9,rest=0.1", ("healthy", "rest"))
    (0.9, 0.1)
    """
    wanted = f"--prevalence {text!r}: expected a share for each of {', '.join(classes)}, such as {classes[0]}=0.3"
    parts = [part.strip().rpartition("=") for part in text.split(",")]
    names = [name.strip() for name, _, _ in parts]
    if sorted(names) != sorted(classes):
        raise UsageError(f"{wanted}; got {', '.join(name or 'no name' for name in names)}")
    try:
        given = {name.strip(): float(share) for name, _, share in parts}
    except ValueError as error:
        raise UsageError(f"{wanted}; got a share that is no number") from error
    shares = tuple(given[name] for name in classes)
    if not all(0 < share < 1 for share in shares) or abs(sum(shares) - 1) > 1e-3:
        raise UsageError(f"{wanted}, above 0 and with the sum 1; got the sum {sum(shares):g}")
    return tuple(share / sum(shares) for share in shares)


def move(
    probability: Float64[np.ndarray, "n k"], shares: Sequence[float], prevalence: Sequence[float]
) -> Float64[np.ndarray, "n k"]:
    """Move probabilities from one prevalence to another (Saerens et al., Neural Computation 2002;14:21, eq. 2.4)."""
    moved = probability * (np.array(prevalence) / np.array(shares))
    return np.asarray(moved / moved.sum(axis=1, keepdims=True))


def weigh_units(label: Int64[np.ndarray, " n"], prevalence: Sequence[float] | None) -> Float64[np.ndarray, " n"]:
    """Weigh units so that the classes that are there have the shares of a prevalence; all 1 where there is none.

    The weights sum to the number of units.
    """
    if prevalence is None:
        return np.ones(len(label))
    counted = np.bincount(label, minlength=len(prevalence))
    wanted = np.where(counted > 0, prevalence, 0.0)
    each = wanted / wanted.sum() * len(label) / np.maximum(counted, 1)
    return np.asarray(each[label])
