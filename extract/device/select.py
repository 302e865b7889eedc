"""From --device and --precision to a back end."""

import os
from collections.abc import Callable
from importlib.util import find_spec

import torch

from embeddings_store.errors import UsageError
from extract.device.backend import DTYPES, Backend, Precision
from extract.device.cpu import CpuBackend
from extract.device.cuda import CudaBackend
from extract.device.xla import XlaBackend
from extract.errors import DeviceError

BACKENDS: dict[str, Callable[[Precision], Backend]] = {
    "cpu": CpuBackend,
    "cuda": CudaBackend,
    "xla": XlaBackend,
}


def open_device(name: str = "auto", precision: str = "fp32") -> Backend:
    """Open "cpu", "cuda", "xla", or the best of them that is here ("auto"), in "fp32" or "bf16".

    Raises DeviceError where the device is not there, UsageError on an unknown precision.
    """
    chosen = next((known for known in DTYPES if known == precision), None)
    if chosen is None:
        raise UsageError(f"precision {precision!r}: expected {' or '.join(DTYPES)}")
    if name == "auto":
        name = _best()
    if name not in BACKENDS:
        raise DeviceError(f"device {name!r}: this build has the back ends {', '.join(BACKENDS)}; choose one, or auto")
    return BACKENDS[name](chosen)


def _best() -> str:
    """Take a TPU where the surroundings promise one (XLA on a CPU is slower than the CPU), else a GPU, else the CPU."""
    if os.environ.get("PJRT_DEVICE") == "TPU" and find_spec("torch_xla") is not None:
        return "xla"
    return "cuda" if torch.cuda.is_available() else "cpu"
