"""Do the encoder and the training step fit a TPU? Asks the TPU compiler, which needs no TPU.

    .venv-xla/bin/python tests/benchmarks/tpu_compile.py [--cases v5e:8:chunked,...] [--depth 12] [--out FILE.json]

torch_xla traces the graph that extraction runs (bf16, pooled vectors out) or, for a stage of fine-tuning (last, all),
one step of it (tpu_training_step.py). jax hands it to libtpu's compiler for the named chip, and the compiler tells the
memory it planned. Needs jax 0.7.1, jaxlib 0.7.1 and libtpu 0.0.24 beside torch_xla 2.9.0 (private interfaces: other
versions may fail); says so and does nothing where they are missing. One process at a time: libtpu takes a lock. Exits
with 1 where a program does not fit.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tpu_training_step import flash_traced_for_tpu, trace_training_step

from extract.device.backend import Backend
from extract.device.select import open_device
from extract.device.xla_attention import attend_in_chunks, flash_attention
from extract.encoder.attention import Attention
from extract.encoder.random_init import ARCHITECTURES, random_twin
from extract.pooling import pool

NEEDED = ("torch_xla", "jax", "jaxlib", "libtpu")
TOPOLOGIES = {"v5e": "v5e:2x2", "v4": "v4:2x2x1"}
MEMORY_GB = {"v5e": 16, "v4": 32}
"""Of one chip; source: the cloud's system architecture pages."""

CASES = "v5e:8:chunked,v4:16:chunked,v5e:8:flash,v4:16:flash,v5e:8:last,v4:16:last,v5e:8:all,v4:16:all"
STAGES = ("last", "all")


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of one program for one chip."""

    chip: str
    batch: int
    work: str
    attention: str
    depth: int
    compile_s: float
    temporary_mb: float
    arguments_mb: float
    output_mb: float
    moments_mb: float
    """Of AdamW: not in the program, but in the memory beside it."""
    accessed_gb: float
    memory_gb: int

    @property
    def total_gb(self) -> float:
        return (self.temporary_mb + self.arguments_mb + self.output_mb + self.moments_mb) / 1000

    @property
    def fits(self) -> bool:
        return self.total_gb < self.memory_gb


def main() -> int:
    words = parse_words()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"skipped: {', '.join(missing)} not installed; see the first lines of {Path(__file__).name}")
        return 0
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu", "PJRT_DEVICE": "CPU"}
    compiled = []
    print(f"{'chip':6}{'batch':>6} {'work':14}{'attention':10}{'blocks':>7}{'compile s':>11}{'temp MB':>9}"
          f"{'args MB':>9}{'out MB':>8}{'GB accessed':>13}{'of memory':>15}")  # fmt: skip
    for case in words.cases.split(","):
        chip, batch, kind = case.split(":")
        compiled.append(compile_case(chip, int(batch), kind, words.depth))
        print(describe(compiled[-1]), flush=True)
    if words.out:
        words.out.write_text(json.dumps([asdict(each) for each in compiled], indent=2) + "\n")
    return 0 if all(each.fits for each in compiled) else 1


def parse_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=CASES, help="CHIP:BATCH:KIND,... (v5e or v4; chunked, flash, last or all)")
    parser.add_argument("--depth", type=int, default=12, help="blocks")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def describe(each: Compiled) -> str:
    share = f"{each.total_gb:.1f} of {each.memory_gb} GB"
    return (
        f"{each.chip:6}{each.batch:6d} {each.work:14}{each.attention:10}{each.depth:7d}{each.compile_s:11.0f}"
        f"{each.temporary_mb:9,.0f}{each.arguments_mb:9,.0f}{each.output_mb:8,.1f}{each.accessed_gb:13,.1f}{share:>15}"
        + (f"  with {each.moments_mb:,.0f} MB of AdamW moments (2 x parameters x 4 bytes)" if each.moments_mb else "")
        + ("" if each.fits else "  DOES NOT FIT")
    )


def compile_case(chip: str, batch: int, kind: str, depth: int) -> Compiled:
    """Trace and compile an encoder with the attention named by kind, or one step of the stage with flash."""
    train = kind in STAGES
    program, moment_bytes = trace_training_step(batch, depth, kind) if train else (trace_encoder(batch, kind, depth), 0)
    start = time.perf_counter()
    executable = compile_for(TOPOLOGIES[chip], program)
    seconds = time.perf_counter() - start
    memory, cost = executable.get_compiled_memory_stats(), executable.cost_analysis()
    return Compiled(
        chip=chip,
        batch=batch,
        work=f"stage {kind}" if train else "encoder",
        attention="flash" if train else kind,
        depth=depth,
        compile_s=round(seconds, 1),
        temporary_mb=memory.temp_size_in_bytes / 1e6,
        arguments_mb=memory.argument_size_in_bytes / 1e6,
        output_mb=memory.output_size_in_bytes / 1e6,
        moments_mb=moment_bytes / 1e6,
        accessed_gb=cost["bytes accessed"] / 1e9,
        memory_gb=MEMORY_GB[chip],
    )


def trace_encoder(batch: int, attention: str, depth: int) -> bytes:
    """Give the StableHLO of one extraction step of the full-size encoder; nothing is computed."""
    from torch_xla.core import xla_model

    backend: Backend = open_device("xla", "bf16")
    architecture = replace(ARCHITECTURES["base"], depth=depth)
    module = backend.prepare(random_twin(architecture, 0, "twin").module)
    module.use_attention(ATTENTIONS[attention])
    with torch.no_grad(), flash_traced_for_tpu():
        volumes = backend.place(np.zeros((batch, 1, *architecture.image_size), np.float32))
        pooled = pool(module(volumes)["last"], ("mean", "max", "std"))
        bytecode: bytes = xla_model.get_stablehlo_bytecode([pooled])
    return bytecode


def compile_for(topology: str, program: bytes) -> Any:
    """Compile StableHLO for the first chip of a topology."""
    from jax._src import compiler
    from jax.experimental import topologies
    from jaxlib import _jax

    chip = topologies.get_topology_desc(topology, platform="tpu").devices[0]
    options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    return chip.client.compile(program, _jax.DeviceList((chip,)), options)


ATTENTIONS: dict[str, Attention] = {"chunked": attend_in_chunks, "flash": flash_attention}

if __name__ == "__main__":
    sys.exit(main())
