"""What the attentive probe and the bag head share: candidates trained at once, and weights kept as safetensors."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from classify.cohort.splits import grouped_folds
from classify.heads.contract import Head, TrainingRows
from classify.heads.device import find_device
from classify.heads.members import Member, Network, Schedule, Trained, Units, train_members

MODEL = "head.safetensors"

LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
WEIGHT_DECAYS = (0.1, 1.0, 10.0)
"""Tried together where a head is not told which: decay is decoupled, so a step shrinks a weight by rate times decay."""

STEPS = 32
BATCHES = (32, 256)
"""Smaller batches than a cohort needs cost time and nothing else: a step takes as long for 32 units as for 100."""


class NetworkHead(Head):
    """AdamW and early stopping on participants held back from its own training rows, as the MLP does.

    learning_rate, weight_decay: None trains every one of LEARNING_RATES, WEIGHT_DECAYS at once and keeps the member
    with the smallest held-back loss. hold_out: one participant in this many is held back, stratified by class.
    batch_size: None for STEPS an epoch, within BATCHES. device: cpu, cuda or auto; only where it is computed.
    Learned: member_ (the candidate that was kept), n_iter_ (its best epoch), weights_.
    """

    learning_rate: float | None
    weight_decay: float | None
    dropout: float
    batch_size: int | None
    max_epochs: int
    patience: int
    hold_out: int
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
        asked = [(head, member) for head in company for member in head._members()]
        trained = self._train([member for _, member in asked], rows, codes, weights, people)
        for head in company:
            own = [(member, result) for (owner, member), result in zip(asked, trained, strict=True) if owner is head]
            head.member_, best = min(own, key=lambda pair: pair[1].loss)
            head.weights_, head.n_iter_ = best.weights, best.epoch
            head.classes_, head.n_features_in_ = self.classes_, self.n_features_in_

    def _members(self) -> list[Member]:
        rates = LEARNING_RATES if self.learning_rate is None else (self.learning_rate,)
        decays = WEIGHT_DECAYS if self.weight_decay is None else (self.weight_decay,)
        return [Member(rate, decay, self.dropout) for rate in rates for decay in decays]

    def _train(
        self,
        members: Sequence[Member],
        rows: np.ndarray,
        codes: np.ndarray,
        weights: np.ndarray,
        people: np.ndarray,
    ) -> list[Trained]:
        network = self._network()
        units, owner = self._units(rows, codes, weights, people)
        seed = 0 if self.random_state is None else self.random_state
        held = grouped_folds(owner, units.codes, folds=self.hold_out, seed=seed) == 0
        batch_size = self.batch_size or int(np.clip(len(units.codes) // STEPS, *BATCHES))
        schedule = Schedule(batch_size, self.max_epochs, self.patience, seed, find_device(self.device))
        scaled = units.weights / units.weights.mean()
        return train_members(network, Units(units.take, units.codes, scaled, held), members, schedule)

    @abstractmethod
    def _units(
        self,
        rows: np.ndarray,
        codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"],
        weights: Float64[np.ndarray, " n"],
        people: Int64[np.ndarray, " n"],
    ) -> tuple[Units, Int64[np.ndarray, " u"]]:
        """Say what is classified (nothing held back yet), and the participant of each unit."""

    @abstractmethod
    def _network(self) -> Network:
        """Make the function whose weights are learned."""

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        kept = {name: str(value) for name, value in vars(self.member_).items()} | {"n_iter": str(self.n_iter_)}
        save_file({name: value.contiguous() for name, value in self.weights_.items()}, folder / MODEL, metadata=kept)

    def _read(self, folder: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / MODEL, framework="pt") as stored:
            self.weights_ = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
            kept = stored.metadata()
        self.n_iter_ = int(kept.pop("n_iter"))
        self.member_ = Member(**{name: float(value) for name, value in kept.items()})

    def _exact_weights(self) -> dict[str, Any]:
        """Give the weights as one member in float64: rows are then predicted alike in whatever company."""
        return {name: value.double().unsqueeze(0) for name, value in self.weights_.items()}


def _alike(heads: Sequence[NetworkHead]) -> list[tuple[NetworkHead, ...]]:
    """Put heads together whose parameters differ in those of a member alone."""
    together: dict[str, list[NetworkHead]] = {}
    for head in heads:
        shape = {name: value for name, value in head.get_params().items() if name not in Member.__annotations__}
        together.setdefault(repr(sorted(shape.items())), []).append(head)
    return [tuple(company) for company in together.values()]
