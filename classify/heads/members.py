"""Many small networks of one shape trained at once: each batch is read once for all of them.

A member is one candidate of learning rate, weight decay and dropout, and a number that its first weights are drawn by.
All members see the same batches in the same order and draw the same random numbers for dropout, so a member comes out
the same in whatever company it was trained. Units that are held back from a member weigh nothing in its loss.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
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
    [M or 1, dropped, units] multiplies that vector; None: all of it is kept.
    """

    @property
    def dropped(self) -> int: ...  # noqa: D102

    def start(self, rng: Any) -> dict[str, Any]: ...  # noqa: D102

    def logits(self, weights: Mapping[str, Any], inputs: tuple[Any, ...], keep: Any) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Units:
    """What is classified: volumes or bags of scans. take(positions): their inputs, first axis as the positions.

    owner: the participant of each. at_once: how many are looked at together where nothing is learned.
    """

    take: Callable[[Any], tuple[Any, ...]]
    codes: Int64[np.ndarray, " n"] | Float64[np.ndarray, " n"]
    weights: Float64[np.ndarray, " n"]
    owner: Int64[np.ndarray, " n"]
    at_once: int


@dataclass(frozen=True)
class Found:
    """The smallest held-back loss of a member, and the epoch, from 1, after which it had that."""

    loss: float = float("inf")
    epoch: int = 1


@dataclass
class _State:
    """Members that still learn: who they are, weights [M, all numbers of one] and AdamW's moments.

    shapes: of one member's weights, those that decay first; decayed: how many numbers these are. alike: whether all
    have the same dropout.
    """

    number: list[int]
    shapes: dict[str, tuple[int, ...]]
    decayed: int
    flat: Any
    first: Any
    second: Any
    rate: Any
    decay: Any
    dropout: Any
    alike: bool
    steps: int = 0

    def weights(self, flat: Any) -> dict[str, Any]:
        """Give the weights [M, ...] of all by name, as views."""
        parts = flat.split([prod(shape) for shape in self.shapes.values()], dim=1)
        return {name: part.unflatten(1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}


def find_epochs(
    network: Network,
    units: Units,
    held: Bool[np.ndarray, "parts n"],
    members: Sequence[Member],
    schedule: Schedule,
) -> list[Found]:
    """Train every member once without each part, until its held-back loss stops falling; in the order of members.

    Its loss is that of all units that are in a part, each by the network that did not see it.
    """
    import torch

    parts, apart = len(held), torch.from_numpy(held).to(schedule.device)
    looked_at = _even(torch.from_numpy(np.flatnonzero(held.any(axis=0))), units.at_once)
    best = [Found() for _ in members]
    with one_thread():
        state = _start(network, [member for member in members for _ in range(parts)], schedule)
        for epoch in _epochs(network, state, units, schedule, ~apart):
            going = state.number[::parts]
            for number, loss in zip(
                going, _held_losses(network, state, units, looked_at, apart, schedule), strict=True
            ):
                if loss < best[number // parts].loss:
                    best[number // parts] = Found(loss, epoch)
            _keep_going(state, [epoch - best[number // parts].epoch < schedule.patience for number in state.number])
    return best


def train_for(
    network: Network, units: Units, members: Sequence[Member], epochs: Sequence[int], schedule: Schedule
) -> list[dict[str, Any]]:
    """Train every member on all units for its own number of epochs; weights (no member axis), on the CPU, in order."""
    last: list[dict[str, Any]] = [{} for _ in members]
    with one_thread():
        state = _start(network, members, schedule)
        for epoch in _epochs(network, state, units, replace(schedule, max_epochs=max(epochs))):
            for number, flat in zip(state.number, state.flat, strict=True):
                if epoch == epochs[number]:
                    own = state.weights(flat[None].clone().cpu())
                    last[number] = {name: value[0] for name, value in own.items()}
            _keep_going(state, [epoch < epochs[number] for number in state.number])
    return last


def _epochs(network: Network, state: _State, units: Units, schedule: Schedule, seen: Any = None) -> Iterator[int]:
    """Take the steps of an epoch, and give its number, while there are members that still learn.

    seen [parts, n]: what each of a candidate's members learns from; None: all.
    """
    import torch

    rng = torch.Generator().manual_seed(schedule.seed)
    for epoch in range(1, schedule.max_epochs + 1):
        if not state.number:
            return
        for batch in _even(torch.randperm(len(units.codes), generator=rng), schedule.batch_size):
            _learn(network, state, units, batch, seen, rng, schedule.device)
        yield epoch


def _even(positions: Any, size: int) -> Sequence[Any]:
    """Split positions into parts of at most this size, as even as can be: none is too small to normalise over."""
    split: Sequence[Any] = positions.tensor_split(max(1, -(-len(positions) // size)))
    return split


def _start(network: Network, members: Sequence[Member], schedule: Schedule) -> _State:
    import torch

    drawn = {
        number: network.start(torch.Generator().manual_seed(schedule.seed + APART * number))
        for number in {member.start for member in members}
    }
    one = drawn[members[0].start]
    names = sorted(one, key=lambda name: one[name].ndim < 2)  # biases, scales and shifts are not decayed
    shapes = {name: tuple(one[name].shape) for name in names}
    flat = torch.stack([torch.cat([drawn[member.start][name].flatten() for name in names]) for member in members])
    flat = flat.to(schedule.device)
    values = [(member.learning_rate, member.weight_decay, member.dropout) for member in members]
    rate, decay, dropout = torch.tensor(values, dtype=torch.float32, device=schedule.device).unsqueeze(2).unbind(dim=1)
    decayed = sum(value.numel() for value in one.values() if value.ndim > 1)
    first, second = torch.zeros_like(flat), torch.zeros_like(flat)
    alike = len({member.dropout for member in members}) == 1
    return _State(list(range(len(members))), shapes, decayed, flat, first, second, rate, decay, dropout, alike)


def _learn(network: Network, state: _State, units: Units, batch: Any, seen: Any, rng: Any, device: str) -> None:
    """Take one step of every member on one batch."""
    import torch

    drawn = torch.rand(network.dropped, len(batch), generator=rng).to(device)
    share = (state.dropout[:1] if state.alike else state.dropout)[:, :, None]
    flat = state.flat.detach().requires_grad_()
    logits = network.logits(state.weights(flat), _inputs(units, batch, device), (drawn >= share) / (1 - share))
    loss, weight = _losses(logits, units, batch, device)
    if seen is not None:
        weight = weight * seen[:, batch].repeat(len(logits) // len(seen), 1)
    (gradient,) = torch.autograd.grad((loss * weight).mean(dim=1).sum(), [flat])
    _step(state, gradient)


def _step(state: _State, gradient: Any) -> None:
    """Take AdamW's step (Loshchilov & Hutter, ICLR 2019, algorithm 2), each member by its own rate and decay."""
    state.steps += 1
    one, two = (1 - moment**state.steps for moment in MOMENTS)
    state.flat[:, : state.decayed].mul_(1 - state.rate * state.decay)
    state.first.lerp_(gradient, 1 - MOMENTS[0])
    state.second.mul_(MOMENTS[1]).addcmul_(gradient, gradient, value=1 - MOMENTS[1])
    spread = (state.second / two).sqrt_().add_(EPSILON)
    state.flat.addcdiv_(state.first * (state.rate / -one), spread)


def _held_losses(
    network: Network, state: _State, units: Units, batches: Sequence[Any], held: Any, schedule: Schedule
) -> list[float]:
    """Give each candidate's weighted mean loss of the units of all parts, each by the member that did not see it."""
    import torch

    candidates, heaviness = len(state.number) // len(held), 0.0
    total = torch.zeros(candidates, dtype=torch.float64)
    with torch.inference_mode():
        weights = state.weights(state.flat)
        for batch in batches:
            logits = network.logits(weights, _inputs(units, batch, schedule.device), None)
            loss, weight = _losses(logits, units, batch, schedule.device)
            counted = weight * held[:, batch]
            total += (loss.unflatten(0, (candidates, -1)) * counted).sum(dim=(1, 2)).double().cpu()
            heaviness += float(counted.sum())
    return [float(value) for value in total / max(heaviness, float(np.finfo(np.float64).tiny))]


def _losses(logits: Any, units: Units, batch: Any, device: str) -> tuple[Any, Any]:
    """Give the losses [M, units] of logits [M, units, k], and the units' weights."""
    import torch

    wanted = torch.from_numpy(units.codes)[batch].to(device).expand(len(logits), -1)
    weight = torch.from_numpy(units.weights)[batch].float().to(device)
    if wanted.is_floating_point():
        return (logits[:, :, 0] - wanted.to(logits.dtype)) ** 2, weight
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    return loss.reshape(wanted.shape), weight


def _inputs(units: Units, batch: Any, device: str) -> tuple[Any, ...]:
    return tuple(part.to(device) for part in units.take(batch))


def _keep_going(state: _State, going: Sequence[bool]) -> None:
    """Drop the members that have stopped: they cost nothing any more."""
    if all(going):
        return
    places = [place for place, still in enumerate(going) if still]
    state.number = [state.number[place] for place in places]
    for name in ("flat", "first", "second", "rate", "decay", "dropout"):
        setattr(state, name, getattr(state, name)[places])


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
