"""Multinomial logistic regression on one training part, at many penalties at once.

The optimum of   sum_i weight_i * cross_entropy_i + |coef|^2 / (2 C)   over coef and an unpenalised intercept is unique
(of two classes, coef in the penalty is that of the log-odds, as scikit-learn has it). Rows are centred and turned into
the eigenbasis of their weighted Gram matrix: there Boehning's bound on the Hessian (1992, Ann. Inst. Statist. Math.
44:197) is diagonal for every C, which is the scale that multinomial_lbfgs works in. The k classes are k - 1 contrasts,
so nothing is counted twice.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from sklearn.exceptions import ConvergenceWarning

from classify.heads.multinomial_lbfgs import Minimum, Problem, minimise
from classify.on_cores import on_cores, parts_of
from embeddings_store.errors import UsageError

SINGLE_FROM = 1_000_000
"""Rows x features from which single precision does the way and double precision only the end: half the time."""

SINGLE_TOL, SINGLE_PATIENCE = 5e-7, 8
"""How far single precision is trusted (its rounding noise is about 1e-7), and for how many passes without a smaller
gradient: of rows that are not turned ahead, the noise of the widest directions reaches the narrowest."""

TOL, EASY_TOL, EASY_PASSES = 2e-7, 1e-5, 20
"""What keeps probabilities of rows never seen within 1e-4: the easier of a large part where so few passes reach it,
since the scale then is about that of the Hessian, and a small gradient a small error of every logit."""

TURNED_TO = 16_384
"""Rows of a large part on the CPU up to which they are turned into the eigenbasis ahead, as one more copy."""

ROWS_AT_ONCE = 1024
"""Of a large part on the CPU: as many are in float64 at once."""

GRAM_ROWS = 32
"""Rows a feature from which a large part on the CPU learns its eigenbasis: more cost more than they save in passes."""

NEAR_ZERO = 10.0
"""Spreads that a mean may be from 0 before rows are centred ahead of their products in single precision."""


@dataclass(frozen=True, slots=True)
class Solution:
    """The optimum at one C: logits = X @ coef.T + intercept.

    passes: over the rows, to get there. gradient: its norm at the end, in the unit of tol.
    """

    coef: Float64[np.ndarray, "k d"]
    intercept: Float64[np.ndarray, " k"]
    passes: int
    gradient: float


@dataclass(frozen=True, slots=True)
class Design:
    """A training part in its eigenbasis, ready for any C; arrays of xp (numpy, or torch on a device).

    rows: centred, float64 [n, d]; of large parts on the CPU CentredRows. basis: orthonormal [d, m]. spectrum: about the
    eigenvalues [m] of the weighted Gram matrix. single: float32 matrices whose product is rows @ basis [n, m], or
    None for small parts. target: weighted one-hot labels [k, n].
    """

    xp: Any
    rows: Any
    basis: Any
    spectrum: Any
    single: Any
    target: Any
    weights: Any
    mean: Any
    contrast: Any


@dataclass(frozen=True, slots=True)
class CentredRows:
    """Rows less a mean, as a matrix that is never there as a whole: of x no copy is made.

    dtype: float64, in which a block of rows at a time is, or float32 as x is.
    """

    x: Float[np.ndarray, "n d"]
    mean: Float64[np.ndarray, " d"]
    dtype: Any = np.float64
    device: str = "cpu"
    __array_ufunc__ = None  # an array on the left leaves the product to this

    def __matmul__(self, matrix: Float[np.ndarray, "d q"]) -> Float[np.ndarray, "n q"]:
        """Return rows @ matrix."""
        out = np.empty((len(self.x), matrix.shape[1]), self.dtype)

        def fill(part: slice) -> None:
            for rows, block in self._blocks(part):
                np.matmul(block, matrix, out=out[rows])

        on_cores(fill, parts_of(len(out)))
        out -= self.mean @ matrix
        return out

    def __rmatmul__(self, matrix: Float[np.ndarray, "q n"]) -> Float[np.ndarray, "q d"]:
        """Return matrix @ rows."""

        def product(part: slice) -> Float[np.ndarray, "q d"]:
            return np.asarray(sum(matrix[:, rows] @ block for rows, block in self._blocks(part)))

        total = sum(product.astype(np.float64) for product in on_cores(product, parts_of(len(self.x))))
        return np.asarray(total - matrix.sum(axis=1, dtype=np.float64)[:, None] * self.mean, self.dtype)

    def products(self, weights: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "d d"]:
        """Return the weighted Gram matrix, of GRAM_ROWS a feature evenly spaced: a scale to work in, and no result.

        Products of a block are made in float32 and summed in float64.
        """
        step = max(1, len(self.x) // (GRAM_ROWS * self.x.shape[1]))
        some, root = self.x[::step], np.sqrt(weights[::step])
        total = np.zeros((self.x.shape[1], self.x.shape[1]))
        for rows in _blocks(len(some)):
            heavy = ((some[rows] - self.mean) * root[rows, None]).astype(np.float32)
            total += heavy.T @ heavy
        return np.asarray(total * (weights.sum() / (root @ root)))

    def _blocks(self, part: slice) -> Iterator[tuple[slice, Float[np.ndarray, "b d"]]]:
        if self.dtype == self.x.dtype:
            yield part, self.x[part]
            return
        wide = np.empty((min(ROWS_AT_ONCE, part.stop - part.start), self.x.shape[1]), self.dtype)
        for rows in _blocks(part.stop, part.start):
            block = wide[: len(self.x[rows])]
            block[:] = self.x[rows]
            yield rows, block


def make_design(
    x: Float[np.ndarray, "n d"],
    codes: Int64[np.ndarray, " n"],
    weights: Float64[np.ndarray, " n"],
    classes: int,
    device: str = "cpu",
) -> Design:
    """Centre and rotate once what every C needs.

    device: cpu is NumPy, which is as fast there as torch; anything else is torch's name of a device.
    Raises: UsageError where there is no such device.
    """
    xp, place = _library(device)
    target = np.zeros((classes, len(codes)))
    target[codes, np.arange(len(codes))] = weights
    weight, large = place(weights, "float64"), x.size >= SINGLE_FROM
    if large and xp is np and len(x) >= x.shape[1]:
        rows, rounded = _large_rows(x, weight)
        mean = rows.mean
        basis, spectrum = _own_directions(xp, rows.products(weight))
        turned = basis.astype(np.float32)
        single: tuple[Any, ...] | None = (rounded @ turned,) if len(x) <= TURNED_TO else (rounded, turned)
    else:
        rows = place(x, "float64")
        mean = weight @ rows / weight.sum()
        rows = rows - mean
        rounded = place(rows, "float32") if large else rows
        basis, spectrum = _eigenbasis(xp, rounded * xp.sqrt(place(weight, "float32" if large else "float64"))[:, None])
        single = (rounded @ place(basis, "float32"),) if large else None
    return Design(
        xp=xp,
        rows=rows,
        basis=basis,
        spectrum=spectrum,
        single=single,
        target=place(target, "float64"),
        weights=weight,
        mean=mean,
        contrast=place(_contrasts(classes), "float64"),
    )


def solve(design: Design, strengths: Sequence[float], *, tol: float | None, max_iter: int) -> list[Solution]:
    """Find the optimum of every C in strengths, all at once.

    tol: norm of the gradient in the scale of the bound, over the root of the summed weights: about the error of a
    training logit, checked in float64; None: TOL, or EASY_TOL of large parts, which float32 is enough for.
    Warns: ConvergenceWarning where max_iter passes did not reach it.
    Raises: ValueError where a C is not positive.
    """
    if not all(0 < strength < np.inf for strength in strengths):
        raise ValueError(f"C: expected positive finite numbers, got {', '.join(f'{one:g}' for one in strengths)}")
    problem, unit = _problem(design, strengths), float(design.weights.sum()) ** 0.5
    easy, tol = (0.0, tol) if tol else (EASY_TOL, TOL)
    found, settled = Minimum.at(problem.origin()), np.zeros(len(strengths), dtype=bool)
    if design.single is not None:
        single, reach = problem.in_single(design.single), max(tol, SINGLE_TOL) * unit
        found = minimise(
            single, found.point, tol=reach, max_iter=max_iter, easy=(easy * unit, EASY_PASSES), patience=SINGLE_PATIENCE
        )
        settled = (found.gradient <= easy * unit) & (found.passes <= EASY_PASSES)
    if not settled.all():
        rest = minimise(problem.only(~settled), found.point[:, ~settled], tol=tol * unit, max_iter=max_iter)
        found.take(rest, ~settled)
    gradient = found.gradient / unit
    if (worst := gradient[~settled].max(initial=0.0)) > tol:
        warnings.warn(
            f"logistic regression: a gradient norm of {worst:.1e} after {max_iter} passes, expected at most {tol:.1e}; "
            f"raise max_iter, standardise the features or lower C",
            ConvergenceWarning,
            stacklevel=2,
        )
    coef, intercept = problem.unscale(found.point)
    return [
        Solution(slopes, levels, int(count), float(norm))
        for slopes, levels, count, norm in zip(coef, intercept, found.passes, gradient, strict=True)
    ]


def _large_rows(x: Float[np.ndarray, "n d"], weights: Float64[np.ndarray, " n"]) -> tuple[CentredRows, CentredRows]:
    """Return centred rows in double and in single precision, which share x where it is float32 and near 0."""
    mean = CentredRows(x, np.zeros(x.shape[1])).__rmatmul__(weights[None])[0] / weights.sum()
    near = np.abs(mean) <= NEAR_ZERO * x[:: max(1, len(x) // ROWS_AT_ONCE)].std(axis=0, dtype=np.float64)
    if x.dtype == np.float32 and near.all():
        return CentredRows(x, mean), CentredRows(x, mean, np.float32)
    return CentredRows(x, mean), CentredRows((x - mean).astype(np.float32), np.zeros(len(mean)), np.float32)


def _problem(design: Design, strengths: Sequence[float]) -> Problem:
    """Scale the coordinates of every C so that its Hessian is about the identity."""
    xp = design.xp
    curvature = 1 / len(design.target)  # where every class is as likely as another; L-BFGS learns what follows
    log_odds = 2 if len(design.target) == 2 else 1  # |b|^2 of the log-odds b is twice |b/2|^2 + |-b/2|^2
    inverse = xp.asarray(log_odds / np.asarray(strengths, dtype=np.float64), device=design.rows.device)
    scale = 1 / xp.sqrt(curvature * design.spectrum[None, :] + inverse[:, None])
    return Problem(
        xp=xp,
        chain=(design.rows, design.basis),
        target=design.target,
        weights=design.weights,
        contrast=design.contrast,
        scale=scale,
        penalty=scale**2 * inverse[:, None],
        intercept_scale=float(curvature * design.weights.sum()) ** -0.5,
        mean=design.mean,
    )


def _eigenbasis(xp: Any, weighted: Any) -> tuple[Any, Any]:
    """Give orthonormal float64 directions [d, m] and the weighted rows' squared lengths along them; m = min(n, d).

    Of more features than rows only the space of the rows matters: the penalty keeps coef inside it.
    """
    few_rows = weighted.shape[0] < weighted.shape[1]
    space = xp.linalg.qr(xp.asarray(weighted.T, dtype=xp.float64))[0] if few_rows else None
    inside = weighted if space is None else xp.asarray(weighted, dtype=xp.float64) @ space
    vectors, spectrum = _own_directions(xp, inside.T @ inside)
    return vectors if space is None else space @ vectors, spectrum


def _own_directions(xp: Any, products: Any) -> tuple[Any, Any]:
    spectrum, vectors = xp.linalg.eigh(xp.asarray(products, dtype=xp.float64))
    return vectors, xp.clip(spectrum, 0, None)


def _blocks(stop: int, start: int = 0) -> Iterator[slice]:
    return (slice(first, min(first + ROWS_AT_ONCE, stop)) for first in range(start, stop, ROWS_AT_ONCE))


def _contrasts(classes: int) -> Float64[np.ndarray, "contrasts k"]:
    """Give orthonormal directions among the classes that each sum to 0."""
    against_first = np.column_stack([np.ones(classes), np.eye(classes)[:, 1:]])
    return np.ascontiguousarray(np.linalg.qr(against_first)[0][:, 1:].T)


def _library(device: str) -> tuple[Any, Any]:
    """Give the array library of a device, and how an array gets there."""
    if device == "cpu":
        return np, lambda array, dtype: np.asarray(array, dtype=dtype)
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {device}: this machine has no CUDA GPU that torch can use; take cpu")
    return torch, lambda array, dtype: torch.asarray(array, dtype=getattr(torch, dtype), device=device)
