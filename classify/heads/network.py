"""What perceptron, attentive probe and bag head share: networks trained at once, weights kept as safetensors."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.utils.validation import check_is_fitted, validate_data

from classify.cohort.splits import grouped_folds
from classify.heads.contract import Head, softmax
from classify.heads.device import find_device
from classify.heads.members import Member, Network, Schedule, Units, train_members

MODEL = "head.safetensors"

LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
WEIGHT_DECAYS = (0.1, 1.0, 10.0)
"""Tried together where a head is not told which: decay is decoupled, so a step shrinks a weight by rate times decay."""

STEPS = 8
BATCHES = (32, 256)
"""Smaller batches than a cohort needs cost time and nothing else: a step takes as long for 32 units as for 100."""

PATIENCE, PATIENT_STEPS = 10, 80
"""Epochs, and steps where an epoch has many. Where one scan or token of many tells, nothing is learned before attention
has found it: of five starts on the bags of tests/classify/test_token_probe.py all reached a macro AUROC of 0.9 with ten
epochs of patience, three with six and two with four; more cost time and nothing else."""

FINALISTS = 3
"""Candidates that are looked at on more than one part that was held back."""

HOLD_OUT, FEW_HOLD_OUT, MANY = 5, 10, 200
"""Of few participants a network misses those that are held back, and a tenth costs it less than a fifth: on cohorts of
60 and 120 people ten parts were better than five by 0.004 of macro AUROC (mlp, 48 cohorts) and 0.002 (attentive, 24).
"""

FORMER = ("ensemble",)
"""Parameters of runs of before: networks that then learned from everybody, after others had said for how long."""


class NetworkHead(Head):
    """As many networks as parts are held back, each trained by AdamW without one of them; probabilities are averaged.

    hold_out: one participant in this many is held back at a time, stratified by class; None: HOLD_OUT, or of fewer
    than MANY participants FEW_HOLD_OUT. networks: how many of these parts have a network; None: all. All networks end
    after the epoch that has the smallest loss of those who were held back, each judged by the network that did not see
    them. learning_rate, weight_decay: None trains every one of LEARNING_RATES, WEIGHT_DECAYS at once without the first
    part; the FINALISTS with the smallest held-back loss then go on to all parts, and the one with the smallest loss
    there is kept. patience: epochs without a better loss before it stops; None: PATIENCE, or PATIENT_STEPS.
    batch_size: None for STEPS an epoch, within BATCHES. device: cpu, cuda or auto; only where it is computed. Learned:
    member_ (the candidate that was kept), n_iter_ (its epochs), weights_ [networks, ...], held_by_ [units]: the network
    that did not see each, -1 where all did; not saved.
    """

    fits_aside = True  # on a GPU they take turns
    holds_back = True
    sketch = MappingProxyType({"networks": 2})
    learning_rate: float | None
    weight_decay: float | None
    dropout: float
    batch_size: int | None
    max_epochs: int
    patience: int | None
    hold_out: int | None
    networks: int | None
    device: str
    random_state: int | None
    member_: Member
    weights_: dict[str, Any]
    n_iter_: int
    held_by_: Int64[np.ndarray, " units"]

    def held_out_proba(self, X: Any) -> Float64[np.ndarray, "n k"]:
        """Give the probability of each class for rows that it was fitted on, each by the network that did not see it.

        X: the rows of fit, or the first of them. NaN for a row that all networks saw. Raises: sklearn's NotFittedError
        for a head that was read.
        """
        check_is_fitted(self, "held_by_")
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        weights, found = self._exact_weights(), np.full((len(rows), len(self.classes_)), np.nan)
        by = self.held_by_[: len(rows)]
        for number in np.unique(by[by >= 0]):
            own = np.flatnonzero(by == number)
            alone = {name: value[number : number + 1] for name, value in weights.items()}
            found[own] = mean_of_networks(self._logits(rows[own], alone))
        return found

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        units = self._units(rows, codes, weights, people)
        units, network = replace(units, weights=units.weights / units.weights.mean()), self._network()
        schedule, candidates = self._schedule(units), self._candidates()
        folds = self.hold_out or (FEW_HOLD_OUT if len(np.unique(units.owner)) < MANY else HOLD_OUT)
        part = grouped_folds(units.owner, units.codes, folds=folds, seed=schedule.seed)
        held = part == np.unique(part)[: self.networks, None]
        self.held_by_ = np.where(held.any(axis=0), held.argmax(axis=0), -1)
        if len(candidates) > FINALISTS:
            first = train_members(network, units, held[:1], candidates, schedule)
            candidates = [candidates[n] for n in np.argsort([one.loss for one in first], kind="stable")[:FINALISTS]]
        trained = train_members(network, units, held, candidates, schedule)
        best = int(np.argmin([one.loss for one in trained]))
        self.member_, self.n_iter_ = candidates[best], trained[best].epoch
        self.weights_ = self._settle(trained[best].weights, units)

    def _candidates(self) -> list[Member]:
        rates = LEARNING_RATES if self.learning_rate is None else (self.learning_rate,)
        decays = WEIGHT_DECAYS if self.weight_decay is None else (self.weight_decay,)
        return [Member(rate, decay, self.dropout) for rate in rates for decay in decays]

    def _schedule(self, units: Units) -> Schedule:
        seed = 0 if self.random_state is None else self.random_state
        batch_size = self.batch_size or int(np.clip(len(units.codes) // STEPS, *BATCHES))
        patience = self.patience or min(PATIENCE, ceil(PATIENT_STEPS / ceil(len(units.codes) / batch_size)))
        return Schedule(batch_size, self.max_epochs, patience, seed, find_device(self.device))

    @abstractmethod
    def _units(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> Units:
        """Say what is classified."""

    def _settle(self, weights: dict[str, Any], units: Units) -> dict[str, Any]:  # noqa: ARG002 - most have nothing to
        """Learn from all units what no step does."""
        return weights

    @abstractmethod
    def _network(self) -> Network:
        """Make the function whose weights are learned."""

    @abstractmethod
    def _logits(self, rows: np.ndarray, weights: Mapping[str, Any]) -> Float64[np.ndarray, "networks n k"]:
        """Give the logits of each network, of weights [networks, ...], for each row."""

    def _probability(self, rows: np.ndarray) -> np.ndarray:
        return mean_of_networks(self._logits(rows, self._exact_weights()))

    def _take_parameters(self, parameters: Mapping[str, Any]) -> None:
        super()._take_parameters({name: value for name, value in parameters.items() if name not in FORMER})

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        kept = {name: str(value) for name, value in vars(self.member_).items()}
        kept |= {"n_iter": str(self.n_iter_), "networks": str(len(next(iter(self.weights_.values()))))}
        save_file({name: value.contiguous() for name, value in self.weights_.items()}, folder / MODEL, metadata=kept)

    def _read(self, folder: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / MODEL, framework="pt") as stored:
            self.weights_ = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
            kept = stored.metadata()
        if not {"networks", "ensemble"} & set(kept):  # a run of before: one network, without an axis for more
            self.weights_ = {name: value.unsqueeze(0) for name, value in self.weights_.items()}
        self.n_iter_ = int(kept["n_iter"])
        self.member_ = Member(float(kept["learning_rate"]), float(kept["weight_decay"]), float(kept["dropout"]))

    def _exact_weights(self) -> dict[str, Any]:
        """Give the weights in float64: rows are then predicted alike in whatever company."""
        return {name: value.double() for name, value in self.weights_.items()}


def mean_of_networks(logits: Float64[np.ndarray, "networks n k"]) -> Float64[np.ndarray, "n k"]:
    """Average the probabilities of networks."""
    return np.asarray(softmax(logits).mean(axis=0))
