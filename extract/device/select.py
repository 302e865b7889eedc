"""From --device and --precision to a back end."""

from collections.abc import Callable

import torch

from embeddings_store.errors import UsageError
from extract.device.backend import DTYPES, Backend, Precision
from extract.device.cpu import CpuBackend
from extract.device.cuda import CudaBackend
from extract.errors import DeviceError

BACKENDS: dict[str, Callable[[Precision], Backend]] = {"cpu": CpuBackend, "cuda": CudaBackend}


def open_device(name: str = "auto", precision: str = "fp32") -> Backend:
    """Open "cpu", "cuda", or the better of them ("auto"), in "fp32" or "bf16".

    Raises DeviceError where the device is not there, UsageError on an unknown precision.
    """
    chosen = next((known for known in DTYPES if known == precision), None)
    if chosen is None:
        raise UsageError(f"precision {precision!r}: expected {' or '.join(DTYPES)}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in BACKENDS:
        raise DeviceError(f"device {name!r}: this build has the back ends {', '.join(BACKENDS)}; choose one, or auto")
    return BACKENDS[name](chosen)
