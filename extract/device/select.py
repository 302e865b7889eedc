"""From --device and --precision to a back end."""

from collections.abc import Callable

import torch

from embeddings_store.errors import UsageError
from extract.device.backend import DTYPES, Backend, Precision
from extract.device.cpu import CpuBackend
from extract.device.cuda import CudaBackend
from extract.device.tpu import runtime_kind
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
    name = resolve(name)
    if name not in BACKENDS:
        raise DeviceError(f"device {name!r}: this build has the back ends {', '.join(BACKENDS)}; choose one, or auto")
    return BACKENDS[name](chosen)


def resolve(name: str) -> str:
    """Say what "auto" is here: a TPU, as its runtime says (XLA on a CPU is slower than the CPU), a GPU, else the CPU.

    Raises DeviceError where there is a TPU that cannot be used: a run that took the CPU would look as if it worked.
    """
    if name != "auto":
        return name
    if runtime_kind() == "TPU":
        return "xla"
    return "cuda" if torch.cuda.is_available() else "cpu"
