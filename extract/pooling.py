"""From tokens to what a row keeps: pooled vectors, and a grid of tokens."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda tokens: tokens.mean(1),
    "max": lambda tokens: tokens.amax(1),
    "std": lambda tokens: tokens.std(1, correction=0),
}
"""Over all tokens of a volume, each channel alone; std is the population's."""

CLS = "cls"
"""The pool that is no statistic of patch tokens: the first prefix token, of slices the mean over slices."""


def require_pools(pools: Sequence[str]) -> tuple[str, ...]:
    """Check pool names: at least one, none twice, each in POOLS or "cls"; else UsageError."""
    if unknown := [name for name in pools if name not in (*POOLS, CLS)]:
        raise UsageError(f"pool {unknown[0]!r}: expected one of {', '.join((*POOLS, CLS))}")
    if not pools or len(set(pools)) != len(pools):
        raise UsageError(f"pools {','.join(pools) or '(none)'}: expected at least one pool, and none twice")
    return tuple(pools)


def pool(
    tokens: Float[Tensor, "B N C"], pools: Sequence[str], leading: Float[Tensor, "B S C"] | None = None
) -> Float32[Tensor, "B P C"]:
    """Pool over tokens, always computed in float32; raises UsageError on an unknown pool.

    leading: the first prefix token of the volume, or of each of its slices, for "cls".
    """
    exact = tokens.to(torch.float32)
    found = {name: POOLS[name](exact) for name in require_pools(pools) if name != CLS}
    if CLS in pools:
        if leading is None:
            raise UsageError("pool 'cls': expected an encoder with a class token, got one without; choose another pool")
        found[CLS] = leading.to(torch.float32).mean(1)
    return torch.stack([found[name] for name in pools], dim=1)


def reduce_tokens(tokens: Float[Tensor, "B N C"], grid: Grid, target: Grid) -> Float32[Tensor, "B gd gh gw C"]:
    """Average whole boxes of neighbouring tokens, in float32; ``target`` divides ``grid`` along each axis."""
    require_division(grid, target)
    batch, _, width = tokens.shape
    if grid == target:
        return tokens.to(torch.float32).reshape(batch, *grid, width)
    sides = [size for whole, kept in zip(grid, target, strict=True) for size in (kept, whole // kept)]
    return tokens.to(torch.float32).reshape(batch, *sides, width).mean((2, 4, 6))


def parse_token_grid(text: str, grid: Grid) -> Grid | None:
    """Read --tokens: "full" is the encoder's own grid, "none" is None, "4x6x6" a grid that divides it."""
    if text == "none":
        return None
    if text == "full":
        return grid
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"tokens {text!r}: expected full, none, or three numbers such as 4x6x6")
    depth, height, width = (int(part) for part in parts)
    require_division(grid, (depth, height, width))
    return depth, height, width


def require_division(grid: Grid, target: Grid) -> None:
    """Check that a token grid divides the encoder's along each axis; else UsageError."""
    if any(whole % kept for whole, kept in zip(grid, target, strict=True)):
        raise UsageError(
            f"token grid {'x'.join(map(str, target))}: expected a divisor of the encoder's {'x'.join(map(str, grid))} "
            "along each axis"
        )
