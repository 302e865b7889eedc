"""Many small networks of one shape trained at once: each batch is read once for all of them.

A member is one candidate of learning rate, weight decay and dropout, and a number that its first weights are drawn by.
All members see the same batches in the same order and draw the same random numbers for dropout, so a member comes out
the same in whatever company it was trained.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

MOMENTS = (0.9, 0.999)
EPSILON = 1e-8

APART = 1_000_003
"""Between the seeds of two starts: no seed that a user would give beside another."""


@dataclass(frozen=True)
class Member:
    """One candidate. start: which first weights it has."""

    learning_rate: float
    weight_decay: float
    dropout: float
    start: int = 0


@dataclass(frozen=True)
class Schedule:
    """How all members are trained. patience: epochs without a better held-back loss before a member stops."""

    batch_size: int
    max_epochs: int
    patience: int
    seed: int
    device: str


@runtime_checkable
class Network(Protocol):
    """A function with weights. Weights of members lie side by side: [M, ...]; logits are [M, units, k].

    dropped: length of the vector that dropout acts on. start(rng): the weights of one member. logits: keep
    [M, units, dropped] multiplies that vector; None: all of it is kept.
    """

    @property
    def dropped(self) -> int: ...  # noqa: D102

    def start(self, rng: Any) -> dict[str, Any]: ...  # noqa: D102

    def logits(self, weights: Mapping[str, Any], inputs: tuple[Any, ...], keep: Any) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Units:
    """What is classified: volumes or bags of scans. take(positions): their inputs, first axis as the positions.

    held: units that only the early stopping looks at.
    """

    take: Callable[[Any], tuple[Any, ...]]
    codes: Int64[np.ndarray, " n"]
    weights: Float64[np.ndarray, " n"]
    held: Bool[np.ndarray, " n"]


@dataclass
class Trained:
    """One member at its best or last epoch: its weights (no member axis), on the CPU, held-back loss and that epoch."""

    loss: float = float("inf")
    epoch: int = 0
    weights: dict[str, Any] = field(default_factory=dict)


@dataclass
class _State:
    """Members that still learn: who they are, weights [M, ...] and AdamW's moments."""

    number: list[int]
    weights: dict[str, Any]
    first: dict[str, Any]
    second: dict[str, Any]
    rate: Any
    decay: Any
    dropout: Any
    steps: int = 0


def train_members(network: Network, units: Units, members: Sequence[Member], schedule: Schedule) -> list[Trained]:
    """Train every member until its held-back loss stops falling; give the best epoch of each, in their order."""
    import torch

    held = torch.split(torch.from_numpy(np.flatnonzero(units.held)), schedule.batch_size)
    with one_thread():
        state = _start(network, members, schedule)
        best = [Trained(weights=_weights_of(state, place)) for place in range(len(members))]
        for epoch in _epochs(network, state, units, schedule):
            losses = _held_losses(network, state, units, held, schedule.device)
            for place, (number, loss) in enumerate(zip(state.number, losses, strict=True)):
                if loss < best[number].loss:
                    best[number] = Trained(loss, epoch, _weights_of(state, place))
            _keep_going(state, [epoch - best[number].epoch < schedule.patience for number in state.number])
    return best


def train_for(
    network: Network, units: Units, members: Sequence[Member], epochs: Sequence[int], schedule: Schedule
) -> list[Trained]:
    """Train every member for its own number of epochs, in their order; nothing is looked at on the way."""
    with one_thread():
        state = _start(network, members, schedule)
        last = [Trained() for _ in members]
        for epoch in _epochs(network, state, units, replace(schedule, max_epochs=max(epochs))):
            for place, number in enumerate(state.number):
                if epoch == epochs[number]:
                    last[number] = Trained(epoch=epoch, weights=_weights_of(state, place))
            _keep_going(state, [epoch < epochs[number] for number in state.number])
    return last


def _epochs(network: Network, state: _State, units: Units, schedule: Schedule) -> Iterator[int]:
    """Take the steps of an epoch, and give its number, while there are members that still learn."""
    import torch

    rng = torch.Generator().manual_seed(schedule.seed)
    kept = torch.from_numpy(np.flatnonzero(~units.held))
    for epoch in range(1, schedule.max_epochs + 1):
        if not state.number:
            return
        for batch in torch.split(kept[torch.randperm(len(kept), generator=rng)], schedule.batch_size):
            _learn(network, state, units, batch, rng, schedule.device)
        yield epoch


def _start(network: Network, members: Sequence[Member], schedule: Schedule) -> _State:
    import torch

    drawn = {
        number: network.start(torch.Generator().manual_seed(schedule.seed + APART * number))
        for number in {member.start for member in members}
    }
    each = [drawn[member.start] for member in members]
    weights = {name: torch.stack([one[name] for one in each]).to(schedule.device) for name in each[0]}
    first, second = ({name: torch.zeros_like(value) for name, value in weights.items()} for _ in range(2))
    values = [(member.learning_rate, member.weight_decay, member.dropout) for member in members]
    rate, decay, dropout = torch.tensor(values, dtype=torch.float32, device=schedule.device).unbind(dim=1)
    return _State(list(range(len(members))), weights, first, second, rate, decay, dropout)


def _learn(network: Network, state: _State, units: Units, batch: Any, rng: Any, device: str) -> None:
    """Take one step of every member on one batch."""
    import torch

    for value in state.weights.values():
        value.requires_grad_(True)
    drawn = torch.rand(len(batch), network.dropped, generator=rng).to(device)
    share = state.dropout[:, None, None]
    logits = network.logits(state.weights, _inputs(units, batch, device), (drawn >= share) / (1 - share))
    loss, weight = _losses(logits, units, batch, device)
    gradients = torch.autograd.grad((loss * weight).mean(dim=1).sum(), list(state.weights.values()))
    with torch.no_grad():
        for value in state.weights.values():
            value.requires_grad_(False)
        _step(state, dict(zip(state.weights, gradients, strict=True)))


def _step(state: _State, gradients: Mapping[str, Any]) -> None:
    """Take AdamW's step (Loshchilov & Hutter, ICLR 2019, algorithm 2), each member by its own rate and decay.

    Biases, scales and shifts (one axis besides the member's) are not decayed.
    """
    state.steps += 1
    corrections = [1 - moment**state.steps for moment in MOMENTS]
    for name, gradient in gradients.items():
        value, first, second = state.weights[name], state.first[name], state.second[name]
        shape = (-1, *[1] * (value.ndim - 1))
        rate = state.rate.reshape(shape)
        if value.ndim > 2:
            value.mul_(1 - rate * state.decay.reshape(shape))
        first.lerp_(gradient, 1 - MOMENTS[0])
        second.mul_(MOMENTS[1]).addcmul_(gradient, gradient, value=1 - MOMENTS[1])
        spread = (second / corrections[1]).sqrt_().add_(EPSILON)
        value.sub_(rate / corrections[0] * first / spread)


def _held_losses(network: Network, state: _State, units: Units, batches: Sequence[Any], device: str) -> list[float]:
    """Give each member's weighted mean loss of the held-back units."""
    import torch

    total, heaviness = torch.zeros(len(state.number), dtype=torch.float64), 0.0
    with torch.inference_mode():
        for batch in batches:
            logits = network.logits(state.weights, _inputs(units, batch, device), None)
            loss, weight = _losses(logits, units, batch, device)
            total += (loss * weight).sum(dim=1).double().cpu()
            heaviness += float(weight.sum())
    return [float(value) for value in total / max(heaviness, float(np.finfo(np.float64).tiny))]


def _losses(logits: Any, units: Units, batch: Any, device: str) -> tuple[Any, Any]:
    """Give the cross-entropy [M, units] of logits [M, units, k], and the units' weights."""
    import torch

    wanted = torch.from_numpy(units.codes)[batch].to(device).expand(len(logits), -1)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    weight = torch.from_numpy(units.weights)[batch].float().to(device)
    return loss.reshape(wanted.shape), weight


def _inputs(units: Units, batch: Any, device: str) -> tuple[Any, ...]:
    return tuple(part.to(device) for part in units.take(batch))


def _weights_of(state: _State, place: int) -> dict[str, Any]:
    return {name: value[place].detach().clone().cpu() for name, value in state.weights.items()}


def _keep_going(state: _State, going: Sequence[bool]) -> None:
    """Drop the members that have stopped: they cost nothing any more."""
    if all(going):
        return
    places = [place for place, still in enumerate(going) if still]
    state.number = [state.number[place] for place in places]
    for part in (state.weights, state.first, state.second):
        for name, value in part.items():
            part[name] = value[places].clone()
    state.rate, state.decay, state.dropout = (value[places] for value in (state.rate, state.decay, state.dropout))


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, so that sums are made in the same order on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
