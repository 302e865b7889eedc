"""Training on XLA: the weights of the eager CPU, on one, two and four virtual chips, in few programs.

Runs where torch_xla is installed (make test-xla). Each count of chips needs a process of its own: XLA is told it once.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from finetune_study import (
    IMAGE_SIZE,
    feed_of,
    plain_standardiser,
    rows_of,
    small_encoder,
    trainer_of,
    write_volumes,
)
from safetensors.torch import load_file

from extract.device.cpu import CpuBackend
from finetune.data.feeds import VolumeFeed
from finetune.data.images import ImageCache
from finetune.model.network import host_weights
from finetune.parallel.spmd import SpmdBackend, open_trainer
from finetune.recipe.load import load_config
from finetune.training.epochs import Epoch
from finetune.training.loop import train_stage
from finetune.training.run_stages import new_model
from finetune.training.stages import set_trainable

pytestmark = [
    pytest.mark.xla,
    pytest.mark.skipif(find_spec("torch_xla") is None, reason="torch_xla is not installed here; make test-xla has it"),
]

CONFIG = load_config(
    None,
    changes=(
        "stages.all.augment=0",
        "stages.all.drop_path=0",
        "stages.all.patience=null",
        "batch_size=4",
        "first_head=drawn",
    ),
    epochs=3,
)

QUICKLY_COMPILED = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""Most of the time would go into compiling; the numbers are the same up to rounding."""


def train(
    folder: Path, *, xla: bool, recompute: bool = False
) -> tuple[dict[str, torch.Tensor], list[Epoch], list[int]]:
    """Train the stage "all" on ten volumes: two whole batches and a short one an epoch."""
    config = CONFIG.model_copy(update={"recompute": recompute})
    backend = open_trainer("xla", forward_size=4) if xla else CpuBackend("fp32")
    encoder = small_encoder()
    rng = torch.Generator().manual_seed(0)
    images = ImageCache(folder, "none", "float32")
    ids = write_volumes(images, torch.randn(10, 1, *IMAGE_SIZE, generator=rng).numpy())
    rows = rows_of([0, 1] * 5, "train", ids)
    model = new_model(config, encoder, backend, plain_standardiser(encoder), 2, 0, rows, lambda line: None)
    set_trainable(model, config.stages.all)
    dataset = feed_of(images, rows, config, 2).dataset
    feed = VolumeFeed(dataset, backend, pad_to=4 if backend.static_shapes else None)
    counts: list[int] = []
    trainer = trainer_of(model, config, 2, backend=backend, watch=lambda _: counts.append(backend.compilations()))
    history = train_stage(trainer, "all", feed, feed, [])
    if xla:
        assert isinstance(backend, SpmdBackend)
        assert backend.fallbacks() == {}, backend.fallbacks()
    return host_weights(model), history, counts


def surroundings_of(chips: int) -> dict[str, str]:
    return {**os.environ, "PJRT_DEVICE": "CPU", "CPU_NUM_DEVICES": str(chips), "XLA_FLAGS": QUICKLY_COMPILED}


def train_on_chips(chips: int, folder: Path, recompute: bool) -> dict[str, object]:
    """Do the same on virtual chips, in a process of its own."""
    out = folder / "weights.safetensors"
    code = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from safetensors.torch import save_file
from test_finetune_xla import train
weights, history, counts = train(Path({str(folder / "images")!r}), xla=True, recompute={recompute})
save_file(weights, {str(out)!r})
print(json.dumps({{"losses": [epoch.train_loss for epoch in history], "counts": counts}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=surroundings_of(chips)
    )
    assert done.returncode == 0, done.stderr
    return {"weights": load_file(out)} | json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("chips", "recompute"), [(1, True), (2, False), (4, False)])
def test_virtual_chips_end_with_the_weights_of_the_eager_cpu(tmp_path: Path, chips: int, recompute: bool) -> None:
    eager, history, _ = train(tmp_path / "eager", xla=False)
    found = train_on_chips(chips, tmp_path, recompute)
    weights = found["weights"]
    assert isinstance(weights, dict)
    assert weights.keys() == eager.keys()
    assert all(torch.allclose(weights[name], eager[name], atol=1e-4) for name in eager)
    assert found["losses"] == pytest.approx([epoch.train_loss for epoch in history], abs=1e-4)
    counts = found["counts"]
    assert isinstance(counts, list)
    assert counts[2] == counts[1], "the third epoch compiled anew"


EPOCHS = {"head": 5, "last": 3, "all": 3}
RECIPE = """
import json, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch_xla.debug.metrics as metrics
import finetune_study as study
from extract.encoder.random_init import ARCHITECTURES

ARCHITECTURES["tiny"] = study.small_encoder().architecture
counts, programs = [], lambda: metrics.metric_data("CompileTime")[0]
done = study.finetune(
    study.options(
        Path({bucket!r}), Path({runs!r}), device="xla", config="tpu-v4-32", stages=("head", "last", "all"),
        batch_size=8, change=("head={{kind: mlp, width: 32}}", "workers=0", "stages.last.blocks=1", *{epochs!r}),
    ),
    tell=lambda line: counts.append((line.split()[0], programs())) if ": train loss" in line else None,
)
fallbacks = [name for name in metrics.counter_names() if name.startswith("aten::")]
print(json.dumps({{"counts": counts, "fallbacks": fallbacks, "training": done.record.fitted.parameters}}))
"""


def start_recipe(chips: int, bucket: Path, runs: Path) -> subprocess.Popen[str]:
    epochs = [f"stages.{stage}.{word}" for stage, n in EPOCHS.items() for word in (f"epochs={n}", "patience=null")]
    code = RECIPE.format(tests=str(Path(__file__).parent), bucket=str(bucket), runs=str(runs), epochs=epochs)
    words = [sys.executable, "-c", code]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings_of(chips)
    )


def test_the_recipe_for_a_slice_runs_as_it_is(phantom: Path, tmp_path: Path) -> None:
    """tpu-v4-32 with bf16, recomputing, augmentation, drop path and the plan's head, on two small blocks."""
    started = {chips: start_recipe(chips, phantom, tmp_path / f"runs-{chips}") for chips in (1, 4)}
    for chips, process in started.items():
        out, err = process.communicate()
        assert process.returncode == 0, f"{chips} chips: {err[-3000:]}"
        told = json.loads(out.splitlines()[-1])
        assert told["fallbacks"] == [], chips
        history, recipe = told["training"]["history"], told["training"]["recipe"]
        assert (recipe["precision"], recipe["recompute"], recipe["head"]["kind"]) == ("bf16", True, "mlp")
        assert {epoch["stage"] for epoch in history} == {"head", "last", "all"}
        assert all(0 < epoch["train_loss"] < 10 for epoch in history), history
        for stage, epochs in EPOCHS.items():
            counts = [count for name, count in told["counts"] if name == stage]
            assert len(counts) == epochs
            assert counts[-1] == counts[-2], f"{chips} chips: the last epoch of {stage} compiled anew: {counts}"


def test_a_batch_that_cannot_be_dealt_evenly_is_refused() -> None:
    code = """
from finetune.parallel.spmd import open_trainer
open_trainer("xla", forward_size=3)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=surroundings_of(2)
    )
    assert "3 volumes a forward do not divide evenly over 2 chips" in done.stderr
