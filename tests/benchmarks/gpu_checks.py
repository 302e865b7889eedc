"""What gpu_check.py looks at, check by check: what is computed first, then how fast, then training."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import torch
from gpu_check import Check
from torch.nn import functional
from torch.nn.attention import sdpa_kernel

from classify.features.standardise import Standardiser
from embeddings_store.schema import Eye
from extract.augment.draws import Draws
from extract.device.backend import Backend
from extract.device.cpu import CpuBackend
from extract.device.cuda_attention import KERNELS
from extract.device.fitting import forward_bytes
from extract.device.select import open_device
from extract.encode import BatchEncoder
from extract.encoder.attention import fused_attention
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder
from finetune.data.augment.augmenter import Augmenter
from finetune.data.feeds import LabelledBatch
from finetune.data.images import to_levels
from finetune.data.raw import RawVolumes, make_volumes
from finetune.model.blocks import dropping_paths, recomputing
from finetune.model.network import VOLUMES, VolumeClassifier
from finetune.parallel.sharing import Alone
from finetune.recipe.config import EncoderStage, FinetuneConfig, MlpConfig
from finetune.training.stages import new_optimiser, set_trainable
from finetune.training.step import add_gradients, seeded, take_step

CLASSES = 4
POOLS = ("mean", "max", "std")
PEAK_TFLOPS = 800.0
"""Dense bf16 of an H100, the denominator of the goal in docs/performance.md."""


@cache
def encoder_of(cuda: bool) -> Encoder:
    return random_encoder("random:base") if cuda else random_encoder("random:tiny", (8, 64, 64))


def volumes(check: Check, count: int) -> np.ndarray:
    size = encoder_of(check.cuda).architecture.image_size
    return np.random.default_rng(0).standard_normal((count, 1, *size), dtype=np.float32)


def open_backend(check: Check, precision: str) -> Backend:
    return open_device("cuda" if check.cuda else "cpu", precision)


def tflops(check: Check, seconds: float, count: int, passes: float = 1.0) -> float:
    return passes * count * encoder_of(check.cuda).architecture.flop_per_volume / seconds / 1e12


def ceilings(check: Check) -> None:
    """Matrix products of random numbers, and the ways of memory."""
    size, bytes_ = (8192, 1 << 30) if check.cuda else (128, 1 << 20)
    one, other = (torch.randn(size, size, device=check.device).bfloat16() for _ in range(2))
    check.note("ceilings", bf16_tflops=2 * size**3 / check.seconds(lambda: one @ other) / 1e12)
    here, there = (torch.empty(bytes_, dtype=torch.uint8, device=check.device) for _ in range(2))
    check.note("ceilings", copy_gb_s=2 * bytes_ / check.seconds(lambda: there.copy_(here)) / 1e9)
    host = torch.empty(bytes_, dtype=torch.uint8, pin_memory=check.cuda)
    ways = {"to_device": lambda: here.copy_(host, non_blocking=True), "to_host": lambda: host.copy_(here)}
    for way, copy in ways.items():
        check.note("ceilings", way=way, gb_s=bytes_ / check.seconds(copy) / 1e9)


def attention(check: Check) -> None:
    """Each kernel, at 9,216 tokens and 12 heads of 64."""
    tokens, heads, head, batch = (9216, 12, 64, 4) if check.cuda else (64, 3, 16, 1)
    packed = torch.randn(batch, tokens, 3, heads, head, device=check.device).bfloat16().requires_grad_()
    flop = 4 * batch * heads * tokens**2 * head

    def forward() -> torch.Tensor:
        return functional.scaled_dot_product_attention(*packed.permute(2, 0, 3, 1, 4).unbind(0))

    for name, kernel in KERNELS.items() if check.cuda else (("default", None),):
        try:
            with sdpa_kernel([kernel]) if kernel else ExitStack():
                once = check.seconds(forward)
                both = check.seconds(lambda: forward().sum().backward())
        except RuntimeError as error:
            check.note("attention", kernel=name, refused=str(error).splitlines()[0])
        else:
            check.note("attention", kernel=name, tflops=flop / once / 1e12, both_tflops=3.5 * flop / both / 1e12)


def parity(check: Check) -> None:
    """The device against the CPU in float32, and a batch against one volume alone."""
    batch, encoder = volumes(check, 4), encoder_of(check.cuda)
    expected = BatchEncoder(encoder, CpuBackend("fp32")).tokens(batch[:1])
    for precision, limit in (("fp32", 1e-3), ("bf16", 0.25)):
        batches = BatchEncoder(encoder, open_backend(check, precision), batch_size=len(batch), pools=POOLS)
        found = batches.tokens(batch[:1])
        alone, together = batches.encode(batch[:1]).pooled[0], batches.encode(batch).pooled[0]
        one, other = found.mean(1)[0], expected.mean(1)[0]
        cosine = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        apart, batched = float(np.abs(found - expected).max()), float(np.abs(alone - together).max())
        check.note("parity", precision=precision, largest=apart, cosine=cosine, batch_against_one=batched)
        if not (apart < limit and cosine > 0.999 and batched < limit):
            raise ValueError(f"{precision}: tokens differ by {apart}, cosine {cosine}, a batch by {batched}")


def encoder(check: Check) -> None:
    """Volumes a second of the forward alone, by batch and by kernel; the project's own choice is "chosen"."""
    backend = open_backend(check, "bf16")
    best = 0.0
    for name in ("chosen", *KERNELS) if check.cuda else ("chosen",):
        module = backend.prepare(encoder_of(check.cuda).module)
        if name != "chosen":
            module.use_attention(fused_attention)
        for size in (1, 8, 32) if check.cuda else (1, 2):
            placed = backend.place(volumes(check, size))
            with torch.no_grad(), sdpa_kernel([KERNELS[name]]) if name in KERNELS else ExitStack():
                took = check.seconds(lambda: module(placed, ("last",)))  # noqa: B023 - called at once
            best = max(best, tflops(check, took, size))
            check.note(
                "encoder", kernel=name, batch=size, volumes_per_s=size / took, tflops=tflops(check, took, size),
                peak_gb=check.peak_gb(),
            )  # fmt: skip
    check.note("encoder", best_share_of_peak=best / PEAK_TFLOPS, goal=0.5)


def overlap(check: Check) -> None:
    """Submit a batch, then collect the one before, as extraction does: the share of the time the device is busy."""
    size, count = (32, 8) if check.cuda else (2, 3)
    backend, whole = open_backend(check, "bf16"), volumes(check, size)
    grid = encoder_of(check.cuda).architecture.grid
    batches = BatchEncoder(encoder_of(check.cuda), backend, batch_size=size, pools=POOLS, token_grid=grid)
    module, placed = backend.prepare(encoder_of(check.cuda).module), backend.place(whole)
    with torch.no_grad():
        alone = check.seconds(lambda: module(placed, ("last",)))

    def loop() -> None:
        waiting = None
        for _ in range(count):
            inputs = []
            for one in whole:
                inputs.append(backend.room(one.shape))
                inputs[-1][:] = one
            submitted = batches.submit(inputs)
            if waiting is not None:
                batches.collect(waiting)
            waiting = submitted
        assert waiting is not None
        batches.collect(waiting)

    took = check.seconds(loop, times=2) / count
    check.note("overlap", forward_s=alone, loop_s=took, busy_share=alone / took)


def memory(check: Check) -> None:
    """A device too full for its batch: halved until it fits, with the rows of batch 1."""
    backend, batch = open_backend(check, "bf16"), volumes(check, 12)
    expected = BatchEncoder(encoder_of(check.cuda), backend).encode(batch[:1]).pooled[0]
    batches = BatchEncoder(encoder_of(check.cuda), backend, batch_size=12)
    with ExitStack() as after:
        if check.cuda:
            torch.cuda.empty_cache()
            leave = int(3.2 * forward_bytes(encoder_of(check.cuda).architecture, "bf16", 1)) + 600_000_000
            size = max(0, torch.cuda.mem_get_info()[0] - leave)
            filler = [torch.empty(size, dtype=torch.uint8, device=check.device)]
            after.callback(filler.clear)
        else:
            after.enter_context(_little_memory(batches, 3))
        found = np.concatenate([batches.collect(part).pooled for part in batches.submit_fitting(batch)])
    apart = float(np.abs(found[0] - expected).max())
    check.note("memory", rows=len(found), batch_in_the_end=batches.batch_size, first_row_differs=apart)
    if len(found) != 12 or batches.batch_size >= 12 or apart > 0.25:
        raise ValueError("recovery lost volumes, or never happened")


@contextmanager
def _little_memory(batches: BatchEncoder, fitting: int) -> Iterator[None]:
    forward = batches._module.forward

    def refuse(placed: torch.Tensor, *words: Any) -> Any:
        if len(placed) > fitting:
            raise torch.OutOfMemoryError("made up")
        return forward(placed, *words)

    batches._module.forward = refuse
    try:
        yield
    finally:
        del batches._module.forward


def engine(check: Check) -> None:
    """The engine of one machine, with volumes that are decoded already: rows a second."""
    from bench_device_feed import feed, prepare

    backend, count = open_backend(check, "bf16"), 384 if check.cuda else 20
    batches: Any = prepare(backend, encoder_of(check.cuda))
    feed(backend, encoder_of(check.cuda), batches, 16)
    start = time.perf_counter()
    rows = feed(backend, encoder_of(check.cuda), batches, count).pooled
    check.note("engine", volumes=len(rows), volumes_per_s=count / (time.perf_counter() - start))
    if len(rows) != count:
        raise ValueError(f"{len(rows)} rows of {count}")


class OneBatch:
    """A feed whose batch is on the device already."""

    shared = True

    def __init__(self, backend: Backend, batch: LabelledBatch) -> None:
        self.backend, self.batch = backend, batch

    def logits(self, net: Any, batch: LabelledBatch) -> torch.Tensor:
        return net(batch.inputs, batch.group, VOLUMES)


def _start_training(check: Check, stage: str, batch: int) -> tuple[VolumeClassifier, Any, Any, EncoderStage]:
    backend, width = open_backend(check, "fp32"), encoder_of(check.cuda).architecture.width
    standardiser = Standardiser((), np.zeros((1, width)), np.ones((1, width)))
    model = VolumeClassifier(
        encoder_of(check.cuda), standardiser, CLASSES, 0, MlpConfig(kind="mlp", width=64), bf16=True
    )
    model.encoder = backend.prepare(model.encoder)
    model = backend.prepare(model)
    settings = FinetuneConfig().stages.find(stage)
    assert isinstance(settings, EncoderStage)
    set_trainable(model, settings)
    model.set_training(statistics=False)
    label = functional.one_hot(torch.arange(batch) % CLASSES, CLASSES).float().to(check.device)
    inputs, group = backend.place(volumes(check, batch)), torch.zeros(batch, dtype=torch.int64, device=check.device)
    return model, OneBatch(backend, LabelledBatch(inputs, label, group)), new_optimiser(model, settings), settings


def train(check: Check) -> None:
    """A step of stages last and all, with activations kept and computed again."""
    batch = 8 if check.cuda else 2
    for stage, again in (("last", False), ("all", False), ("all", True)):
        model, feed, optimiser, settings = _start_training(check, stage, batch)
        parallel = Alone(model)
        check.peak_gb()

        def step(parallel: Any = parallel, feed: Any = feed, optimiser: Any = optimiser) -> torch.Tensor:
            with seeded(feed.backend, (0, 1)):
                return take_step(parallel, optimiser, feed, [feed.batch], volumes=batch, gradient_clip=1.0)

        with (
            recomputing(model.encoder, on=again, backend=feed.backend),
            dropping_paths(model.encoder, settings.drop_path),
        ):
            took = check.seconds(step)
            loss = float(step())
        check.note(
            "train", stage=stage, recompute=again, batch=batch, volumes_per_s=batch / took, peak_gb=check.peak_gb(),
            loss=loss,
            tflops=tflops(check, took, batch, 4 if again else 3) if stage == "all" else None,
        )  # fmt: skip
        if not np.isfinite(loss):
            raise ValueError("the loss is not finite")


def accumulate(check: Check) -> None:
    """A batch at once, and in two parts: the gradients."""
    batch = 8 if check.cuda else 4
    model, feed, _, _ = _start_training(check, "all", batch)
    model.eval()  # no dropout: its masks depend on how a batch is split
    whole, half, found = feed.batch, batch // 2, []
    halves = [
        LabelledBatch(whole.inputs[part], whole.label[part], whole.group[part])
        for part in (slice(0, half), slice(half, batch))
    ]
    with recomputing(model.encoder, on=True, backend=feed.backend):
        for parts in ([whole], halves):
            add_gradients(Alone(model), feed, parts, batch)
            found.append(torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]))
    apart = float((found[0] - found[1]).norm() / found[0].norm())
    check.note("accumulate", parts=2, relative_difference=apart)
    if not apart < 0.02:
        raise ValueError(f"gradients differ by {apart}")


def augment(check: Check) -> None:
    """A batch as the cache keeps it, changed on the device, and the same on the CPU."""
    size, batch = encoder_of(check.cuda).architecture.image_size, 8 if check.cuda else 2
    augmenter = Augmenter(FinetuneConfig().augment, 0.5, (0,))
    levels, scales, draws = [], [], []
    for number, image in enumerate(volumes(check, batch)):
        level, scale = to_levels(image)
        drawn = augmenter.draw(size, Eye.LEFT, augmenter.rng_of("ab", 0, number))
        levels.append(torch.from_numpy(level))
        scales.append(torch.from_numpy(scale)[None])
        draws.append(Draws(*(torch.from_numpy(part)[None] for part in drawn)))
    raw = RawVolumes(torch.stack(levels), torch.stack(scales), Draws(*map(torch.stack, zip(*draws, strict=True))))
    there = raw.mapped(lambda part: part.to(check.device))
    took = check.seconds(lambda: make_volumes(there))
    apart = float((make_volumes(there).cpu() - make_volumes(raw)).abs().max())
    check.note("augment", batch=batch, volumes_per_s=batch / took, peak_gb=check.peak_gb(), device_against_cpu=apart)


def compile_encoder(check: Check) -> None:
    """torch.compile of the encoder against eager."""
    if not check.cuda:
        check.note("compile", skipped="takes most of a minute on a CPU, which extraction does not compile for")
        return
    backend, size = open_backend(check, "bf16"), 16
    module, placed = backend.prepare(encoder_of(check.cuda).module), backend.place(volumes(check, size))
    compiled = torch.compile(deepcopy(module), dynamic=False)
    with torch.no_grad():
        start = time.perf_counter()
        found = compiled(placed, ("last",))["last"]
        check.wait()
        took = time.perf_counter() - start
        apart = float((found.float() - module(placed, ("last",))["last"].float()).abs().max())
        eager, fast = (check.seconds(lambda one=one: one(placed, ("last",))) for one in (module, compiled))
    check.note(
        "compile", compile_s=took, eager_volumes_per_s=size / eager, compiled_volumes_per_s=size / fast, largest=apart
    )


CHECKS: dict[str, Callable[[Check], None]] = {
    "ceilings": ceilings, "attention": attention, "parity": parity, "encoder": encoder, "overlap": overlap,
    "memory": memory, "engine": engine, "train": train, "accumulate": accumulate, "augment": augment,
    "compile": compile_encoder,
}  # fmt: skip
