"""Loading holds little more than the encoder: no optimizer moments, no tensor twice."""

import subprocess
import sys
from pathlib import Path

import torch

from extract.encoder.architecture import Architecture
from extract.encoder.random_init import random_twin

ARCHITECTURE = Architecture("vjepa3d", (16, 96, 96), (4, 16, 16), 768, 4, 12, 3072)  # 30 M parameters: 120 MB

MEASURE = """
import sys
from pathlib import Path
from extract.encoder.checkpoint import load_checkpoint

def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

before = peak_mb()
encoder = load_checkpoint(Path(sys.argv[1]), heads=12)
size = sum(parameter.numel() for parameter in encoder.module.parameters()) * 4 / 2**20
print((peak_mb() - before) / size)
"""


def trainer_file(path: Path) -> Path:
    """Write what a trainer writes: both encoders, and two AdamW moments for each weight of the first."""
    weights = random_twin(ARCHITECTURE, 0, "test").module.state_dict()
    moments = {n: {"exp_avg": w.clone(), "exp_avg_sq": w.clone()} for n, w in enumerate(weights.values())}
    model = {f"context_encoder.{name}": tensor for name, tensor in weights.items()}
    model |= {f"target_encoder.encoder.{name}": tensor.clone() for name, tensor in weights.items()}
    config = {"image_size": [16, 96, 96]}
    torch.save({"model_state_dict": model, "optimizer_state_dict": {"state": moments}, "config": config}, path)
    return path


def test_peak_memory_is_little_above_the_encoder(tmp_path: Path) -> None:
    path = trainer_file(tmp_path / "trainer.pt")
    assert path.stat().st_size > 4 * 110e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    ratio = float(done.stdout)
    print(f"peak memory of loading: {ratio:.2f} x the encoder")
    assert ratio < 1.2
