"""What perceptron, attentive probe and bag head share: candidates trained at once, weights kept as safetensors."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.cohort.splits import grouped_folds
from classify.heads.contract import Head, TrainingRows, softmax
from classify.heads.device import find_device
from classify.heads.members import Found, Member, Network, Schedule, Units, find_epochs, train_for

MODEL = "head.safetensors"

LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
WEIGHT_DECAYS = (0.1, 1.0, 10.0)
"""Tried together where a head is not told which: decay is decoupled, so a step shrinks a weight by rate times decay."""

STEPS = 8
BATCHES = (32, 256)
"""Smaller batches than a cohort needs cost time and nothing else: a step takes as long for 32 units as for 100."""

FINALISTS, LOOKS = 3, 3
"""Candidates that are looked at on more than one part that was held back, and on how many."""


class NetworkHead(Head):
    """AdamW for as many epochs as held-back participants of its own training rows ask for, then on all of them.

    learning_rate, weight_decay: None trains every one of LEARNING_RATES, WEIGHT_DECAYS at once; of more than FINALISTS
    those with the smallest held-back loss go on. hold_out: one participant in this many is held back at a time,
    stratified by class. A finalist is trained LOOKS times side by side, each time without others, and the one with the
    smallest loss of all who were held back is kept. patience: epochs without a better loss before it stops. ensemble:
    how many networks of different first weights are then trained on everybody for the best number of epochs; their
    probabilities are averaged. batch_size: None for STEPS an epoch, within BATCHES. device: cpu, cuda or auto; only
    where it is computed. Learned: member_ (the candidate that was kept), n_iter_ (its epochs), weights_ [ensemble, *].
    """

    learning_rate: float | None
    weight_decay: float | None
    dropout: float
    batch_size: int | None
    max_epochs: int
    patience: int
    hold_out: int
    ensemble: int
    device: str
    random_state: int | None
    member_: Member
    weights_: dict[str, Any]
    n_iter_: int
    _company: tuple["NetworkHead", ...] = ()
    """Heads that are fitted along; set by fit_grid alone."""

    @classmethod
    def fit_grid(
        cls, parts: Sequence[TrainingRows], candidates: Sequence[Mapping[str, Any]], random_state: int
    ) -> list[list[Head]]:
        """Fit candidates that differ by rate, decay and dropout alone together: each row is read once for all."""
        fitted: list[list[Head]] = []
        for part in parts:
            heads = [cls(random_state=random_state, **candidate) for candidate in candidates]
            for company in _alike(heads):
                company[0]._company = company
                company[0].fit(part.x, part.y, part.weights, part.groups)
                company[0]._company = ()
            fitted.append([*heads])
        return fitted

    def _fit(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> None:
        company = self._company or (self,)
        course = self._course(rows, codes, weights, people)
        first = course.look([one for head in company for one in head._members() if len(head._members()) > FINALISTS], 1)
        finals = [sorted(head._members(), key=lambda one: first.get(one, Found()).loss)[:FINALISTS] for head in company]
        found = course.look([member for some in finals for member in some], LOOKS)
        for head, some in zip(company, finals, strict=True):
            head.member_ = min(some, key=lambda one: found[one].loss)
            head.n_iter_ = found[head.member_].epoch
            head.classes_, head.n_features_in_ = self.classes_, self.n_features_in_
        for head, grown in zip(company, course.finish(company), strict=True):
            head.weights_ = head._settle(grown, course.units)

    def _members(self) -> list[Member]:
        rates = LEARNING_RATES if self.learning_rate is None else (self.learning_rate,)
        decays = WEIGHT_DECAYS if self.weight_decay is None else (self.weight_decay,)
        return [Member(rate, decay, self.dropout) for rate in rates for decay in decays]

    def _course(self, rows: np.ndarray, codes: np.ndarray, weights: np.ndarray, people: np.ndarray) -> "_Course":
        network, units = self._network(), self._units(rows, codes, weights, people)
        seed = 0 if self.random_state is None else self.random_state
        part = grouped_folds(units.owner, units.codes, folds=self.hold_out, seed=seed)
        batch_size = self.batch_size or int(np.clip(len(units.codes) // STEPS, *BATCHES))
        schedule = Schedule(batch_size, self.max_epochs, self.patience, seed, find_device(self.device))
        return _Course(network, replace(units, weights=units.weights / units.weights.mean()), part, schedule)

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

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        kept = {name: str(value) for name, value in vars(self.member_).items()}
        kept |= {"n_iter": str(self.n_iter_), "ensemble": str(self.ensemble)}
        save_file({name: value.contiguous() for name, value in self.weights_.items()}, folder / MODEL, metadata=kept)

    def _read(self, folder: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / MODEL, framework="pt") as stored:
            self.weights_ = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
            kept = stored.metadata()
        if "ensemble" not in kept:  # a run of before: one network, without an axis for more
            self.weights_ = {name: value.unsqueeze(0) for name, value in self.weights_.items()}
        self.ensemble = len(next(iter(self.weights_.values())))
        self.n_iter_ = int(kept["n_iter"])
        self.member_ = Member(float(kept["learning_rate"]), float(kept["weight_decay"]), float(kept["dropout"]))

    def _exact_weights(self) -> dict[str, Any]:
        """Give the weights in float64: rows are then predicted alike in whatever company."""
        return {name: value.double() for name, value in self.weights_.items()}


def mean_of_members(logits: Float64[np.ndarray, "members n k"]) -> Float64[np.ndarray, "n k"]:
    """Average the probabilities of networks."""
    return np.asarray(softmax(logits).mean(axis=0))


@dataclass(frozen=True)
class _Course:
    """Units to learn from, and the part in which each is held back."""

    network: Network
    units: Units
    part: Int64[np.ndarray, " u"]
    schedule: Schedule

    def look(self, members: Sequence[Member], parts: int) -> dict[Member, Found]:
        """Train without the units of each of the first parts; two heads may ask for the same member."""
        if not members:
            return {}
        different = list(dict.fromkeys(members))
        held = np.stack([self.part == number for number in range(parts) if number == 0 or (self.part == number).any()])
        return dict(zip(different, find_epochs(self.network, self.units, held, different, self.schedule), strict=True))

    def finish(self, heads: Sequence[NetworkHead]) -> list[dict[str, Any]]:
        """Train what the heads have chosen on everybody, from as many starts as each averages."""
        import torch

        asked = [(replace(head.member_, start=start), head.n_iter_) for head in heads for start in range(head.ensemble)]
        members, epochs = zip(*asked, strict=True)
        found = iter(train_for(self.network, self.units, members, epochs, self.schedule))
        own = [[next(found) for _ in range(head.ensemble)] for head in heads]
        return [{name: torch.stack([one[name] for one in some]) for name in some[0]} for some in own]


def _alike(heads: Sequence[NetworkHead]) -> list[tuple[NetworkHead, ...]]:
    """Put heads together whose parameters differ in those of a member alone."""
    together: dict[str, list[NetworkHead]] = {}
    for head in heads:
        shape = {name: value for name, value in head.get_params().items() if name not in Member.__annotations__}
        together.setdefault(repr(sorted(shape.items())), []).append(head)
    return [tuple(company) for company in together.values()]
