"""The head that knows the class frequencies and nothing else: it stands in every table."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.heads.contract import ARRAYS, Head
from classify.model_files import read_arrays


class DummyHead(Head):
    """Predict the weighted class frequencies of training for everybody."""

    name = "dummy"
    balanced = False  # the frequencies are all that it knows
    prior_: Float64[np.ndarray, " k"]

    def __init__(self, *, random_state: int | None = 0) -> None:
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags

    def _fit(
        self,
        rows: np.ndarray,  # noqa: ARG002 - a dummy does not look
        codes: Int64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],  # noqa: ARG002
    ) -> None:
        self.prior_ = np.bincount(codes, weights, minlength=len(self.classes_)) / weights.sum()

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        return np.tile(self.prior_, (len(rows), 1))

    def _write(self, folder: Path) -> None:
        np.savez(folder / ARRAYS, prior=self.prior_)

    def _read(self, folder: Path) -> None:
        arrays = read_arrays(folder / ARRAYS)
        self.prior_ = arrays["prior"]
