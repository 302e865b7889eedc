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
    changes=("stages.all.augment=0", "stages.all.drop_path=0", "stages.all.patience=null", "batch_size=4"),
    epochs=3,
)


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
    model = new_model(config, encoder, backend, plain_standardiser(encoder), 2, 0)
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
    surroundings = {**os.environ, "PJRT_DEVICE": "CPU", "CPU_NUM_DEVICES": str(chips)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=surroundings)
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


def test_a_batch_that_cannot_be_dealt_evenly_is_refused() -> None:
    code = """
from finetune.parallel.spmd import open_trainer
open_trainer("xla", forward_size=3)
"""
    surroundings = {**os.environ, "PJRT_DEVICE": "CPU", "CPU_NUM_DEVICES": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=surroundings)
    assert "3 volumes a forward do not divide evenly over 2 chips" in done.stderr
