"""Many small networks of one shape trained at once: each batch is read once for all of them.

A member is one candidate of learning rate, weight decay and dropout without one part of the units: these weigh nothing
in its loss. Each part has first weights of its own. All members see the same batches in the same order and draw the
same random numbers for dropout, so a member comes out the same in whatever company it was trained.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

MOMENTS = (0.9, 0.999)
EPSILON = 1e-8

APART = 1_000_003
"""Between the seeds of two starts: no seed that a user would give beside another."""


@dataclass(frozen=True)
class Member:
    """One candidate."""

    learning_rate: float
    weight_decay: float
    dropout: float


@dataclass(frozen=True)
class Schedule:
    """How all members are trained. patience: epochs without a better held-back loss before a candidate stops."""

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
class Trained:
    """A candidate where its held-back loss is smallest: the epoch, from 1, and the weights [parts, ...] of then."""

    loss: float
    epoch: int
    weights: dict[str, Any]


@dataclass
class _State:
    """Members that still learn: the candidate of each, weights [M, all numbers of one] and AdamW's moments.

    The parts of a candidate lie side by side. shapes: of one member's weights, those that decay first; decayed: how
    many numbers these are. alike: whether all have the same dropout.
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


def train_members(
    network: Network,
    units: Units,
    held: Bool[np.ndarray, "parts n"],
    candidates: Sequence[Member],
    schedule: Schedule,
) -> list[Trained]:
    """Train every candidate once without each part, until its held-back loss stops falling; in the order of candidates.

    Its loss is that of all units that are in a part, each by the network that did not see it. Weights are on the CPU.
    """
    import torch

    parts, apart = len(held), torch.from_numpy(held).to(schedule.device)
    looked_at = [_even(torch.from_numpy(np.flatnonzero(own)), units.at_once) for own in held]
    with one_thread():
        state = _start(network, candidates, parts, schedule)
        best: dict[int, Trained] = {}
        for epoch in _epochs(network, state, units, schedule, ~apart):
            losses = _held_losses(network, state, units, looked_at, schedule.device)
            now = state.flat.unflatten(0, (-1, parts))
            for number, loss, flat in zip(state.number[::parts], losses, now, strict=True):
                if number not in best or loss < best[number].loss:
                    best[number] = Trained(loss, epoch, state.weights(flat.clone().cpu()))
            _keep_going(state, [epoch - best[number].epoch < schedule.patience for number in state.number])
    return [best[number] for number in range(len(candidates))]


def _epochs(network: Network, state: _State, units: Units, schedule: Schedule, seen: Any) -> Iterator[int]:
    """Take the steps of an epoch, and give its number, while there are members that still learn.

    seen [parts, n]: what each of a candidate's members learns from.
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


def _start(network: Network, candidates: Sequence[Member], parts: int, schedule: Schedule) -> _State:
    import torch

    drawn = [network.start(torch.Generator().manual_seed(schedule.seed + APART * part)) for part in range(parts)]
    one = drawn[0]
    names = sorted(one, key=lambda name: one[name].ndim < 2)  # biases, scales and shifts are not decayed
    shapes = {name: tuple(one[name].shape) for name in names}
    flat = torch.stack([torch.cat([part[name].flatten() for name in names]) for part in drawn])
    flat = flat.repeat(len(candidates), 1).to(schedule.device)
    values = [(one.learning_rate, one.weight_decay, one.dropout) for one in candidates for _ in range(parts)]
    rate, decay, dropout = torch.tensor(values, dtype=torch.float32, device=schedule.device).unsqueeze(2).unbind(dim=1)
    decayed = sum(value.numel() for value in one.values() if value.ndim > 1)
    first, second = torch.zeros_like(flat), torch.zeros_like(flat)
    alike = len({member.dropout for member in candidates}) == 1
    owner = [number for number in range(len(candidates)) for _ in range(parts)]
    return _State(owner, shapes, decayed, flat, first, second, rate, decay, dropout, alike)


def _learn(network: Network, state: _State, units: Units, batch: Any, seen: Any, rng: Any, device: str) -> None:
    """Take one step of every member on one batch."""
    import torch

    drawn = torch.rand(network.dropped, len(batch), generator=rng).to(device)
    share = (state.dropout[:1] if state.alike else state.dropout)[:, :, None]
    flat = state.flat.detach().requires_grad_()
    logits = network.logits(state.weights(flat), _inputs(units, batch, device), (drawn >= share) / (1 - share))
    loss, weight = _losses(logits, units, batch, device)
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
    network: Network, state: _State, units: Units, held: Sequence[Sequence[Any]], device: str
) -> list[float]:
    """Give each candidate's weighted mean loss of the units of all parts, each by the member that did not see it.

    held: of each part its units, in batches. The loss is infinite where it is no number, so that any other is better.
    """
    import torch

    total, heaviness = torch.zeros(len(state.number) // len(held), dtype=torch.float64), 0.0
    with torch.inference_mode():
        for part, batches in enumerate(held):
            weights = state.weights(state.flat[part :: len(held)])
            for batch in batches:
                logits = network.logits(weights, _inputs(units, batch, device), None)
                loss, weight = _losses(logits, units, batch, device)
                total += (loss * weight).sum(dim=1).double().cpu()
                heaviness += float(weight.sum())
    mean = total / max(heaviness, float(np.finfo(np.float64).tiny))
    return [value if isfinite(value) else float("inf") for value in mean.tolist()]


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
