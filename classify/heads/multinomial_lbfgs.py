"""L-BFGS on many multinomial problems over the same rows at once: one matrix product serves all that are not done.

Liu and Nocedal 1989 (Math. Programming 45:503), each problem with its own memory and step. Arrays are of xp (numpy
or torch), class first: points are [contrasts, problems, m + 1], the intercept last; logits [contrasts, problems, n].
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

MEMORY = 10
ENOUGH = 0.9
"""A step is taken when the slope along it has fallen to this share of the slope at its start."""

MOST_TRIES = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Rows, labels and scales. chain: matrices whose product is the design [n, m], never multiplied out.

    scale, penalty: [problems, m], of a coordinate and of its square. contrast: [contrasts, k].
    """

    xp: Any
    chain: tuple[Any, ...]
    target: Any
    weights: Any
    contrast: Any
    scale: Any
    penalty: Any
    intercept_scale: float
    mean: Any

    def in_single(self, chain: tuple[Any, ...]) -> "Problem":
        """Give the same problem with all that has n rows in float32; points and gradients stay float64."""
        single = {name: self._cast(getattr(self, name), chain[0]) for name in ("target", "weights", "contrast")}
        return replace(self, chain=chain, **single)

    def only(self, kept: Any) -> "Problem":
        """Keep some of the problems."""
        return replace(self, scale=self.scale[kept], penalty=self.penalty[kept])

    def origin(self) -> Any:
        """Give the point where every class is as likely as any other."""
        problems, directions = self.scale.shape
        shape = (len(self.contrast), problems, directions + 1)
        return self.xp.zeros(shape, dtype=self.scale.dtype, device=self.scale.device)

    def logits(self, point: Any) -> Any:
        """Give the logits of every row, by contrast; linear in the point."""
        contrasts, problems = point.shape[:2]
        product = self._cast((point[..., :-1] * self.scale).reshape(contrasts * problems, -1), self.chain[0])
        for matrix in reversed(self.chain):
            product = _by_row((matrix @ product.T).T)  # a third faster than product @ matrix.T where few are left
        shift = self._cast(point[..., -1:] * self.intercept_scale, product)
        return product.reshape(contrasts, problems, -1) + shift

    def residual(self, logits: Any) -> Any:
        """Give weight x (probability - label) of every row, by contrast: the slope of the loss by the logits."""
        contrasts, problems, rows = logits.shape
        by_class = (self.contrast.T @ logits.reshape(contrasts, -1)).reshape(-1, problems, rows)
        raised = self.xp.exp(by_class - self.xp.amax(by_class, 0))
        raised *= self.weights / raised.sum(0)
        raised -= self.target[:, None, :]
        return (self.contrast @ raised.reshape(len(raised), -1)).reshape(contrasts, problems, rows)

    def gradient(self, residual: Any, point: Any) -> Any:
        """Give the gradient at a point from its residual, float64."""
        contrasts, problems, rows = residual.shape
        product = residual.reshape(contrasts * problems, rows)
        for matrix in self.chain:
            product = product @ matrix
        slope = self._cast(product, self.scale).reshape(contrasts, problems, -1) * self.scale
        level = self._cast(residual.sum(-1), self.scale)[..., None] * self.intercept_scale
        return self.xp.concatenate([slope + self.penalty * point[..., :-1], level], -1)

    def unscale(self, point: Any) -> tuple[Float64[np.ndarray, "problems k d"], Float64[np.ndarray, "problems k"]]:
        """Give coefficients and intercepts of the features as they came, one row a class."""
        basis = self.chain[-1]
        coef = self.xp.einsum("rsm,rk->skm", point[..., :-1] * self.scale, self.contrast) @ basis.T
        intercept = (point[..., -1] * self.intercept_scale).T @ self.contrast - coef @ self.mean
        return _to_numpy(coef), _to_numpy(intercept)

    def _cast(self, array: Any, like: Any) -> Any:
        return self.xp.asarray(array, dtype=like.dtype)


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where each problem ended, the norm of its gradient there, and the passes over the rows that it took."""

    point: Any
    gradient: Float64[np.ndarray, " problems"]
    passes: Int64[np.ndarray, " problems"]

    @classmethod
    def at(cls, point: Any) -> "Minimum":
        """Begin at a point of which nothing is known."""
        return cls(point, np.full(point.shape[1], np.inf), np.zeros(point.shape[1], dtype=np.int64))

    def take(self, rest: "Minimum", chosen: Bool[np.ndarray, " problems"]) -> None:
        """Let some of the problems end where they went on to."""
        self.point[:, chosen], self.gradient[chosen] = rest.point, rest.gradient
        self.passes[chosen] += rest.passes


@dataclass(slots=True)
class _State:
    """The problems that are not done. memory: (step, change of gradient, 1 / their product), oldest first."""

    problem: Problem
    number: Int64[np.ndarray, " problems"]
    point: Any
    logits: Any
    gradient: Any
    memory: list[tuple[Any, Any, Any]]

    def norms(self) -> Float64[np.ndarray, " problems"]:
        return _to_numpy(_dot(self.problem.xp, self.gradient, self.gradient)) ** 0.5

    def keep(self, chosen: np.ndarray) -> None:
        """Go on with some of the problems."""
        self.problem, self.number = self.problem.only(chosen), self.number[chosen]
        self.point, self.logits, self.gradient = (
            array[:, chosen] for array in (self.point, self.logits, self.gradient)
        )
        self.memory = [(step[:, chosen], change[:, chosen], inverse[chosen]) for step, change, inverse in self.memory]


def minimise(
    problem: Problem,
    start: Any,
    *,
    tol: float,
    max_iter: int,
    easy: tuple[float, int] = (0.0, 0),
    patience: int | None = None,
) -> Minimum:
    """Go downhill from start until every gradient's norm is at most tol, or for max_iter passes over the rows.

    easy: a larger norm that is enough for what reaches it within some passes. patience: passes without a smaller norm
    after which a problem is left where it is.
    """
    logits = problem.logits(start)
    gradient = problem.gradient(problem.residual(logits), start)
    state = _State(problem, np.arange(start.shape[1]), start, logits, gradient, [])
    end = start * 1
    norm, passes = np.zeros(start.shape[1]), np.zeros(start.shape[1], dtype=np.int64)
    best, since = np.full(start.shape[1], np.inf), np.zeros(start.shape[1], dtype=np.int64)
    for done_passes in range(max_iter + 1):
        norms = state.norms()
        left = norms > (max(tol, easy[0]) if done_passes <= easy[1] else tol)
        since[state.number] = np.where(norms < best[state.number], 0, since[state.number] + 1)
        best[state.number] = np.minimum(norms, best[state.number])
        left &= (since[state.number] < patience) if patience else True
        done = ~left if done_passes < max_iter else np.ones_like(left)
        if done.any():
            ended = state.number[done]
            end[:, ended], norm[ended], passes[ended] = state.point[:, done], norms[done], done_passes
            state.keep(~done)
        if not len(state.number):
            break
        _advance(state)
    return Minimum(end, norm, passes)


def _advance(state: _State) -> None:
    """Take one step in every problem."""
    problem, xp = state.problem, state.problem.xp
    direction = _descent(xp, state.gradient, state.memory)
    along = problem.logits(direction)
    step, logits, residual = _search(state, direction, along)
    moved = step[:, None] * direction
    state.point, state.logits = state.point + moved, logits
    gradient = problem.gradient(residual, state.point)
    change, state.gradient = gradient - state.gradient, gradient
    curvature = _dot(xp, moved, change)
    upward = curvature > 0  # rounding alone can make it negative: such a pair teaches nothing
    inverse = xp.where(upward, 1 / xp.where(upward, curvature, 1.0), 0.0)
    state.memory = [*state.memory, (moved, change, inverse)][-MEMORY:]


def _descent(xp: Any, gradient: Any, memory: list[tuple[Any, Any, Any]]) -> Any:
    """Give the direction of the two-loop recursion; straight down where rounding turned it uphill."""
    turned, shares = gradient, []
    for moved, change, inverse in reversed(memory):
        shares.append(inverse * _dot(xp, moved, turned))
        turned = turned - shares[-1][:, None] * change
    if memory:
        _, change, inverse = memory[-1]
        length = inverse * _dot(xp, change, change)
        turned = turned / xp.where(length > 0, length, 1.0)[:, None]
    for (moved, change, inverse), share in zip(memory, reversed(shares), strict=True):
        turned = turned + (share - inverse * _dot(xp, change, turned))[:, None] * moved
    downhill = _dot(xp, gradient, turned) > 0
    return -xp.where(downhill[:, None], turned, gradient)


def _search(state: _State, direction: Any, along: Any) -> tuple[Any, Any, Any]:
    """Find a step of each problem along its line, where logits are linear: no product with the rows is needed.

    The loss is convex along the line: its slope rises, and a step too short or too long is known by its sign.
    """
    problem, xp = state.problem, state.problem.xp
    at_start = _dot(xp, state.gradient, direction)
    pull = xp.einsum("sm,rsm,rsm->s", problem.penalty, state.point[..., :-1], direction[..., :-1])
    stretch = xp.einsum("sm,rsm,rsm->s", problem.penalty, direction[..., :-1], direction[..., :-1])
    step, low, high = at_start * 0 + 1, at_start * 0, at_start * 0 + np.inf
    for tries in range(1, MOST_TRIES + 1):
        logits = state.logits + xp.asarray(step, dtype=along.dtype)[:, None] * along
        residual = problem.residual(logits)
        slope = xp.asarray(_dot(xp, residual, along), dtype=step.dtype) + pull + step * stretch
        unfit = abs(slope) > -ENOUGH * at_start
        if tries == MOST_TRIES or not unfit.any():
            break
        low, high = xp.where(slope < 0, step, low), xp.where(slope < 0, high, step)
        between = xp.where(xp.isfinite(high), (low + high) / 2, 4 * step)
        step = xp.where(unfit, between, step)
    return step, logits, residual


def _dot(xp: Any, one: Any, other: Any) -> Any:
    """Give the inner product of each problem."""
    return xp.einsum("rsm,rsm->s", one, other)


def _by_row(array: Any) -> Any:
    """Lay a matrix out row after row."""
    return np.ascontiguousarray(array) if isinstance(array, np.ndarray) else array.contiguous()


def _to_numpy(array: Any) -> Float64[np.ndarray, "..."]:
    return np.asarray(array if isinstance(array, np.ndarray) else array.cpu(), dtype=np.float64)
