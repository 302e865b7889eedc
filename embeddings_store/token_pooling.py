"""From stored tokens to pooled vectors and coarser grids, with numpy alone.

Sums are made in float64: numpy adds 9,216 float32 tokens one after another, which costs three digits.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float16, Float32, Float64

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid

TokenPool = Callable[[Float64[np.ndarray, "N C"]], Float64[np.ndarray, " C"]]

TOKEN_POOLS: dict[str, TokenPool] = {
    "mean": lambda tokens: tokens.mean(0),
    "max": lambda tokens: tokens.max(0),
    "std": lambda tokens: tokens.std(0),
    "min": lambda tokens: tokens.min(0),
    "median": lambda tokens: np.median(tokens, axis=0),
}
"""Over all tokens of a volume, each channel alone; std is the population's."""


def require_token_pools(pools: Sequence[str]) -> tuple[str, ...]:
    """Check pool names: at least one, none twice, each in TOKEN_POOLS; else UsageError."""
    if unknown := [name for name in pools if name not in TOKEN_POOLS]:
        raise UsageError(f"pool {unknown[0]!r}: expected one of {', '.join(TOKEN_POOLS)}")
    if not pools or len(set(pools)) != len(pools):
        raise UsageError(f"pools {','.join(pools) or '(none)'}: expected at least one pool, and none twice")
    return tuple(pools)


def parse_token_pools(text: str) -> tuple[str, ...]:
    """Read --pool: names with commas between. Raises UsageError as require_token_pools does."""
    return require_token_pools([name.strip() for name in text.split(",")])


def parse_coarse_grid(text: str) -> Grid | None:
    """Read --tokens: "none" is None, "4x6x6" a grid; else UsageError."""
    parts = text.split("x")
    if text == "none":
        return None
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--tokens {text!r}: expected none, or three numbers such as 4x6x6")
    depth, height, width = (int(part) for part in parts)
    return depth, height, width


def pool_tokens(tokens: Float16[np.ndarray, "gd gh gw C"], pools: Sequence[str]) -> Float32[np.ndarray, "P C"]:
    """Pool one volume's grid over all its tokens."""
    exact = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    return np.stack([TOKEN_POOLS[name](exact) for name in pools]).astype(np.float32)


def coarsen_tokens(tokens: Float16[np.ndarray, "gd gh gw C"], target: Grid) -> Float16[np.ndarray, "hd hh hw C"]:
    """Average whole boxes of neighbouring tokens; ``target`` divides the grid along each axis."""
    *grid, width = tokens.shape
    if any(whole % kept for whole, kept in zip(grid, target, strict=True)):
        raise UsageError(
            f"token grid {'x'.join(map(str, target))}: expected a divisor of the stored {'x'.join(map(str, grid))} "
            "along each axis"
        )
    sides = [size for whole, kept in zip(grid, target, strict=True) for size in (kept, whole // kept)]
    boxes: np.ndarray = tokens.reshape(*sides, width).mean((1, 3, 5), dtype=np.float64)
    return boxes.astype(np.float16)
