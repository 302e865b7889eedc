"""The encoder and its input in NumPy, float64, from their description in words; no torch, and none of the code.

``python tests/extract/numpy_encoder.py`` writes tests/fixtures/parity.npz: weights and a volume that are random, and
what comes out of them by this file. Where the reference fixtures exist, a test compares this file with the numbers of
the program that trained such encoders; so the small file proves parity in a clone that has nothing else.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.special import erf

PARITY = Path(__file__).parent.parent / "fixtures" / "parity.npz"
IMAGE, PATCH, WIDTH, DEPTH, HEADS, MLP = (8, 32, 32), (4, 16, 16), 24, 2, 4, 96
Weights = Mapping[str, np.ndarray]


def norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    apart = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((apart**2).mean(-1, keepdims=True) + 1e-5)
    return apart / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(x: np.ndarray, weights: Weights, name: str, heads: int) -> np.ndarray:
    count, width = x.shape
    query, key, value = linear(x, weights, f"{name}.qkv").reshape(count, 3, heads, width // heads).transpose(1, 2, 0, 3)
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(width // heads)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return linear((shares @ value).transpose(1, 0, 2).reshape(count, width), weights, f"{name}.proj")


def encode(volume: np.ndarray, weights: Weights, heads: int) -> np.ndarray:
    """Return the tokens [N, C] of a volume [D, H, W]: patches, position table, pre-norm blocks, a last norm."""
    kernel = weights["patch_embed.proj.weight"]
    steps = kernel.shape[2:]
    grid = tuple(size // step for size, step in zip(volume.shape, steps, strict=True))
    cut = volume.reshape(grid[0], steps[0], grid[1], steps[1], grid[2], steps[2]).transpose(0, 2, 4, 1, 3, 5)
    x = cut.reshape(np.prod(grid), -1) @ kernel.reshape(len(kernel), -1).T + weights["patch_embed.proj.bias"]
    x = x + weights["pos_embed"][0]
    for block in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))):
        own = f"blocks.{block}"
        x = x + attention(norm(x, weights, f"{own}.norm1"), weights, f"{own}.attn", heads)
        hidden = linear(norm(x, weights, f"{own}.norm2"), weights, f"{own}.mlp.fc1")
        x = x + linear(0.5 * hidden * (1 + erf(hidden / np.sqrt(2))), weights, f"{own}.mlp.fc2")
    return norm(x, weights, "norm")


def preprocess(voxels: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Return [D, H, W]: trilinear by the centres of voxels, edges held, then minus the mean over the deviation."""
    found = voxels.astype(np.float64)
    for axis, new in enumerate(size):
        old = found.shape[axis]
        place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, None)
        low = np.minimum(np.floor(place).astype(int), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = (place - low).reshape([-1 if other == axis else 1 for other in range(3)])
        found = found.take(low, axis) * (1 - share) + found.take(high, axis) * share
    return (found - found.mean()) / found.std()


def make_parity(seed: int = 24) -> dict[str, np.ndarray]:
    """Draw weights and a volume, and compute what they give."""
    rng, tokens = np.random.default_rng(seed), int(np.prod(IMAGE) / np.prod(PATCH))
    shapes = {"patch_embed.proj.weight": (WIDTH, 1, *PATCH), "patch_embed.proj.bias": (WIDTH,),
              "pos_embed": (1, tokens, WIDTH), "norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}  # fmt: skip
    for block in range(DEPTH):
        for name, (out, into) in {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH), "mlp.fc1": (MLP, WIDTH),
                                  "mlp.fc2": (WIDTH, MLP)}.items():  # fmt: skip
            shapes |= {f"blocks.{block}.{name}.weight": (out, into), f"blocks.{block}.{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{block}.{name}.{part}": (WIDTH,) for part in ("weight", "bias")}
    weights = {name: (rng.normal(size=shape) * 0.2).astype(np.float32) for name, shape in shapes.items()}
    voxels = rng.integers(0, 256, (13, 41, 29), dtype=np.uint8)
    image = preprocess(voxels, IMAGE)
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    tokens_of_it = encode(image.astype(np.float32).astype(np.float64), exact, HEADS)
    return {f"weights/{name}": array for name, array in weights.items()} | {
        "voxels": voxels, "image": image, "tokens": tokens_of_it,
    }  # fmt: skip


if __name__ == "__main__":
    np.savez_compressed(PARITY, **make_parity())  # type: ignore[arg-type]
