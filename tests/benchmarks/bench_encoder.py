"""P1: one encoder forward in float32 on the CPU, against explicit attention and against Hugging Face's VJEPA2."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from comparison import Goal, Row, memory_row, not_measured, time_row
from explicit_vit import explicit_vit
from peak_memory import is_measurable, measure_peak
from settings import Settings
from side_by_side import in_turn
from torch import Tensor

from embeddings_store.grid import Grid
from extract.encoder.architecture import Architecture, shape_text
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import ARCHITECTURES, random_twin

TOKEN_TOLERANCE = 2e-5  # MODEL.md, section 3: float32 tokens of any back end
MATRIX_SIZE = 2048
QUICK, MIDDLE, FULL = (16, 96, 96), (32, 192, 192), ARCHITECTURES["base"].image_size
EXPLICIT, HUGGING_FACE = "explicit attention, same weights", "Hugging Face VJEPA2Model, equal size, sdpa"


def measure(settings: Settings) -> list[Row]:
    size = FULL if settings.full else QUICK if settings.quick else MIDDLE
    rounds = 1 if settings.full or settings.quick else 3
    architecture = replace(ARCHITECTURES["base"], image_size=size)
    work = f"encoder forward {shape_text(size)}, width {architecture.width}, depth {architecture.depth}, fp32 CPU"
    cut = "" if settings.full else "cut down from 64x384x384, for which the goal is set (run.py --full)"
    rows = [_explicit_time(architecture, rounds, work, settings, cut)]
    if not settings.quick:  # no agreement to assert
        rows.append(_explicit_memory(size, work, settings, cut))
    rows.append(_hugging_face_time(architecture, rounds, work, settings, cut))
    rows.append(_share_of_peak(architecture, rounds, work, settings))
    return rows


def _explicit_time(architecture: Architecture, rounds: int, work: str, settings: Settings, cut: str) -> Row:
    encoder, volume = _encoder_and_volume(architecture)
    peer = explicit_vit(architecture, encoder.module.state_dict())
    timed = in_turn(
        _without_gradients(lambda: encoder.module(volume)["last"]),
        _without_gradients(lambda: peer(volume)),
        rounds=rounds,
        agree=_same_tokens,
        warm_up=not settings.full,
    )
    goal = Goal(ratio=2.0) if settings.full else None
    return time_row(timed, id="P1", work=work, peer=EXPLICIT, goal=goal, notes=[cut])


def _explicit_memory(size: Grid, work: str, settings: Settings, cut: str) -> Row:
    words: dict[str, Any] = {"id": "P1", "work": f"peak memory of the {work}", "peer": EXPLICIT}
    if not is_measurable():
        return not_measured("needs /proc", unit="MB", **words)
    ours, peer = (measure_peak("bench_encoder", case, size=size) for case in ("ours", "explicit"))
    return memory_row(ours, peer, goal=Goal(ratio=8.0) if settings.full else None, notes=[cut], **words)


def _hugging_face_time(architecture: Architecture, rounds: int, work: str, settings: Settings, cut: str) -> Row:
    words: dict[str, Any] = {"id": "P1", "work": work, "peer": HUGGING_FACE}
    if find_spec("transformers") is None:
        return not_measured("transformers is not installed", unit="s", **words)
    encoder, volume = _encoder_and_volume(architecture)
    peer, video = _hugging_face(architecture)
    timed = in_turn(
        _without_gradients(lambda: encoder.module(volume)["last"]),
        _without_gradients(lambda: peer(video, skip_predictor=True).last_hidden_state),
        rounds=rounds,
        agree=_same_shape,
        warm_up=not settings.full,
    )
    return time_row(timed, goal=Goal(ratio=1.0) if settings.full else None, notes=[cut], **words)


def _share_of_peak(architecture: Architecture, rounds: int, work: str, settings: Settings) -> Row:
    """Compare with bare matrix products of as many operations: the ratio is the share of the processor's peak."""
    encoder, volume = _encoder_and_volume(architecture)
    factor = torch.randn(MATRIX_SIZE, MATRIX_SIZE, generator=torch.Generator().manual_seed(0))
    one_product = 2 * MATRIX_SIZE**3
    products = max(1, round(count_operations(architecture) / one_product))

    def multiply() -> Tensor:
        product = factor
        for _ in range(products):
            product = factor @ factor
        return product

    timed = in_turn(
        _without_gradients(lambda: encoder.module(volume)["last"]),
        _without_gradients(multiply),
        rounds=rounds,
        agree=lambda _ours, _peer: f"{count_operations(architecture) / 1e12:.2f} TFLOP; the ratio is the share of peak",
        warm_up=not settings.full,
    )
    scale = count_operations(architecture) / (products * one_product)
    peer = f"matrix products of {MATRIX_SIZE} x {MATRIX_SIZE} with as many operations"
    return time_row(timed, id="P1", work=work, peer=peer, peer_scale=scale)


def count_operations(architecture: Architecture) -> float:
    """Count multiplications and additions of one forward: linear layers, and both products of attention."""
    tokens, width = architecture.token_count, architecture.width
    embedding = 2 * width * math.prod(architecture.patch)
    linear = 2 * (4 * width**2 + 2 * width * architecture.mlp_width)
    attention = 4 * tokens * width
    return tokens * (embedding + architecture.depth * (linear + attention))


def _hugging_face(architecture: Architecture) -> tuple[Callable[..., Any], Tensor]:
    """Make a model of the same width, depth, heads and token grid; a frame is a slice of one channel."""
    from transformers import VJEPA2Config, VJEPA2Model

    depth, height, _ = architecture.image_size
    config = VJEPA2Config(
        crop_size=height, frames_per_clip=depth, tubelet_size=architecture.patch[0], patch_size=architecture.patch[1],
        hidden_size=architecture.width, num_hidden_layers=architecture.depth, num_attention_heads=architecture.heads,
        mlp_ratio=architecture.mlp_width / architecture.width, in_chans=1, attn_implementation="sdpa",
    )  # fmt: skip
    model = VJEPA2Model(config).eval()
    return model, _volume(architecture)[:, 0, :, None]


def _encoder_and_volume(architecture: Architecture) -> tuple[Encoder, Tensor]:
    return random_twin(architecture, 0, "random"), _volume(architecture)


def _volume(architecture: Architecture) -> Tensor:
    return torch.randn(1, 1, *architecture.image_size, generator=torch.Generator().manual_seed(0))


def _without_gradients(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.no_grad():
            return call()

    return run


def _same_tokens(ours: Tensor, peer: Tensor) -> str:
    assert ours.shape == peer.shape
    deviation = float((ours - peer).abs().max())
    assert deviation <= TOKEN_TOLERANCE, f"tokens differ by {deviation}"
    return f"tokens equal to {deviation:.1e}"


def _same_shape(ours: Tensor, peer: Tensor) -> str:
    assert ours.shape == peer.shape
    return "other positions (rotary), so only shapes are compared"


def _memory_case(kind: str, size: list[int]) -> Callable[[], Tensor]:
    depth, height, width = size
    architecture = replace(ARCHITECTURES["base"], image_size=(depth, height, width))
    encoder, volume = _encoder_and_volume(architecture)
    if kind == "ours":
        return _without_gradients(lambda: encoder.module(volume)["last"])
    peer = explicit_vit(architecture, encoder.module.state_dict())
    return _without_gradients(lambda: peer(volume))


MEMORY = {"ours": partial(_memory_case, "ours"), "explicit": partial(_memory_case, "explicit")}
