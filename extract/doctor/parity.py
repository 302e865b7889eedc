"""Do the chosen device and precision compute what eager CPU float32 computes?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from extract.device.backend import Backend
from extract.device.select import open_device
from extract.doctor.report import Check, Report, Status, measured
from extract.encode import BatchEncoder
from extract.encoder.architecture import LAST
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder
from extract.errors import DeviceError
from extract.pooling import POOLS, pool

MAX_ABS_TOKENS = 2e-5
"""Largest deviation of a token in float32 (MODEL.md, section 3)."""

MIN_COSINE_POOLED = 0.999
"""Smallest cosine between pooled vectors in bf16 and in float32 (MODEL.md, section 3)."""

PINNED_SEED = 64_384
REFERENCE_ENCODER = "random:tiny"


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a device is from the reference: tokens after the final norm, and their mean, max and std vectors."""

    max_abs_tokens: float
    min_cosine_pooled: float


def examine_device(device: str, precision: str) -> tuple[Report, Backend]:
    """Open the device that was asked for, and look where it really puts a tensor. Raises DeviceError."""
    backend = open_device(device, precision)
    require_used(backend)
    fallback = " (auto found no accelerator)" if device == "auto" and backend.name == "cpu" else ""
    words = f"{backend.name}: {backend.description}, {backend.precision}{fallback}"
    figures = {"device": backend.name, "hardware": backend.description, "precision": backend.precision}
    return Report((Check("device", Status.OK, words),), figures), backend


def require_used(backend: Backend) -> None:
    """Place a tensor and look where it lies. Raises DeviceError where an accelerator is only a name for the CPU."""
    placed = backend.place(np.zeros(1, np.float32)).device.type
    if backend.name != "cpu" and placed == "cpu":
        raise DeviceError(
            f"device {backend.name}: expected tensors on the accelerator, got them on the CPU; check its driver and "
            "environment, or use --device cpu"
        )


def examine_parity(encoder: Encoder | None, backend: Backend) -> tuple[Report, None]:
    """Compare a device with CPU float32 on one pinned input, with the given encoder or a small random one.

    CPU float32 itself is tried with the small one: the large one would only be compared with itself, in minutes.
    """
    itself = backend.name == "cpu" and backend.precision == "fp32"
    subject = random_encoder(REFERENCE_ENCODER) if encoder is None or itself else encoder
    batch = pinned_input(subject.architecture.image_size)
    found = deviation(subject, backend, batch)
    good, measure = _JUDGES[backend.precision](found)
    words = f"{backend.name} {backend.precision} against CPU float32 with {subject.source}: {measure}"
    if not good:
        words += ": the numbers are not those of the reference; do not use this device and precision"
    report = Report((Check("parity", Status.OK if good else Status.FAIL, words),))
    report += measured(
        {"parity_max_abs_tokens": found.max_abs_tokens, "parity_min_cosine_pooled": found.min_cosine_pooled}
    )
    return report + (_judge_programs(backend) if backend.static_shapes else EAGER), None


def pinned_input(image_size: tuple[int, int, int]) -> Float32[np.ndarray, "1 1 D H W"]:
    """Make the same standard-normal volume on every machine."""
    return np.random.default_rng(PINNED_SEED).standard_normal((1, 1, *image_size), dtype=np.float32)


def deviation(encoder: Encoder, backend: Backend, batch: Float32[np.ndarray, "1 1 D H W"]) -> Deviation:
    """Run eager CPU float32 and the device, each in the way in which extraction runs it."""
    with torch.no_grad():
        expected = encoder.module(torch.from_numpy(batch), (LAST,))[LAST]
        expected_vectors = pool(expected, tuple(POOLS)).numpy()
    chosen = BatchEncoder(encoder, backend, pools=tuple(POOLS))
    difference = np.abs(chosen.tokens(batch) - expected.numpy())
    chosen.encode(batch)
    vectors = chosen.encode(batch).pooled[:, 0]  # the second time, so that a program compiled anew each time shows
    return Deviation(float(difference.max()), float(cosines(vectors[0], expected_vectors[0]).min()))


def cosines(ours: Float[np.ndarray, "n C"], theirs: Float[np.ndarray, "n C"]) -> Float[np.ndarray, "n"]:
    """Give the cosine between the rows of two tables; NaN where a row is zero."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine: np.ndarray = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    return cosine


def _judge_fp32(found: Deviation) -> tuple[bool, str]:
    """Judge the tokens; a NaN is never good."""
    measure = f"tokens deviate by at most {found.max_abs_tokens:.1e} (allowed {MAX_ABS_TOKENS:g})"
    return found.max_abs_tokens <= MAX_ABS_TOKENS, measure


def _judge_bf16(found: Deviation) -> tuple[bool, str]:
    measure = (
        f"smallest cosine of pooled vectors {found.min_cosine_pooled:.6f} (at least {MIN_COSINE_POOLED}), "
        f"tokens deviate by at most {found.max_abs_tokens:.1e}"
    )
    return found.min_cosine_pooled >= MIN_COSINE_POOLED, measure


_JUDGES: dict[str, Callable[[Deviation], tuple[bool, str]]] = {"fp32": _judge_fp32, "bf16": _judge_bf16}


PROGRAMS = 2
"""What deviation() asks for on one shape: all tokens, and pooled vectors."""

EAGER = Report(absent={"compilations": "this device computes each operator as it comes, without compiling"})


def _judge_programs(backend: Backend) -> Report:
    """Judge the programs that a compiling device made, and what it left to the host."""
    count, fallbacks = backend.compilations(), dict(backend.fallbacks())
    words = f"{count} programs compiled for {PROGRAMS} computations on one shape"
    if count > PROGRAMS:
        words += ": something is compiled again and again, so a run will be slow"
    if fallbacks:
        words += f"; computed on the host instead: {', '.join(sorted(fallbacks))}"
    status = Status.WARN if count > PROGRAMS or fallbacks else Status.OK
    return Report((Check("compilation", status, words),), {"compilations": count, "fallbacks": fallbacks})
