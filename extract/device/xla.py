"""A TPU through torch_xla; also XLA on the CPU, which is how the same path is tested without one.

The only module that computes with torch_xla (with xla_attention, its kernel), which is imported only when the device is
opened: it needs a torch of its own version (2.9), so most environments lack it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from extract.device.backend import DTYPES, Batch, ModuleT, Precision
from extract.device.cpu import process_peak_bytes
from extract.device.tpu import INSTALL, VISIBLE_CHIPS, accelerator_type, chip_memory_bytes, take_chip
from extract.device.xla_attention import choose_attention
from extract.encoder.module import EncoderModule
from extract.errors import DeviceError

CACHE_VARIABLE = "XLA_PERSISTENT_CACHE_PATH"
"""Where torch_xla itself looks for the folder; initialize_cache sets it."""

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""How XLA begins the message of the RuntimeError when a program does not fit, as it compiles or as it runs."""


class XlaBackend:
    """One XLA device, in programs compiled once for each shape; of a TPU one chip, whoever uses the others.

    On a TPU compiled programs are kept in the user's cache folder, so a second run starts without compiling.
    Raises DeviceError where torch_xla is missing, does not fit this torch, or finds no device.
    """

    name = "xla"
    static_shapes = True
    is_host = False
    chips = 1
    page_locked = False

    def __init__(self, precision: Precision) -> None:
        self._xla, self._xla_model, self._runtime, self._metrics, matmul = _import_torch_xla()
        self.precision: Precision = precision
        self._dtype = DTYPES[precision]
        self._kind = str(self._runtime.device_type())
        if precision == "fp32" and matmul.get_mat_mul_precision() != "highest":
            # Unasked, a TPU rounds float32 factors to bfloat16; torch_xla has this switch for the whole process only.
            matmul.logger.disabled = True  # its warning against setting it twice comes at the first time too
            matmul.set_mat_mul_precision("highest")
        try:
            if self._kind == "TPU":
                self._take_chips()
                _keep_programs(self._runtime)
            self._device = self._xla.device()
        except (RuntimeError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DeviceError(
                f"device xla: expected a {self._kind} that no other process holds, got: {reason}"
            ) from error
        self._compiled_before = self._compiled()
        self._fallen_back_before = self._fallen_back()

    @property
    def description(self) -> str:
        """Name the kind of device, the accelerator type where the machine tells it, and torch_xla's version."""
        accelerator = accelerator_type() if self._kind == "TPU" else ""
        return f"XLA on {self._kind} {accelerator}".rstrip() + f", torch_xla {version('torch_xla')}"

    def prepare(self, module: ModuleT) -> ModuleT:
        """Give a copy on the device, with the attention that suits it."""
        # Rounded on the host: a conversion on the device would be part of the first program only, a second compilation.
        copy = deepcopy(module).to(self._dtype)
        if isinstance(copy, EncoderModule):
            copy.use_attention(choose_attention(self._kind, self.precision))
        return copy.to(self._device)

    def room(self, shape: Sequence[int]) -> Float32[np.ndarray, "..."]:
        """Give ordinary memory: the runtime copies what it sends."""
        return np.empty(tuple(shape), np.float32)

    def place(self, batch: Batch) -> Shaped[Tensor, "..."]:
        """Round on the host, which halves the bytes to send in bf16, and send without waiting."""
        if not isinstance(batch, np.ndarray):
            rounded = torch.empty((len(batch), *batch[0].shape), dtype=self._dtype)
            for row, one in zip(rounded, batch, strict=True):
                row.copy_(torch.from_numpy(one if one.flags.writeable else one.copy()))
            return rounded.to(self._device)
        writeable = batch if batch.flags.writeable else batch.copy()
        numbers = torch.from_numpy(writeable)
        return (numbers.to(self._dtype) if numbers.is_floating_point() else numbers).to(self._device)

    def launch(self) -> None:
        """Compile, where the shapes are new, and start everything asked so far as one program."""
        self._xla.sync()

    @contextmanager
    def seeded(self, number: int) -> Iterator[None]:
        """Seed the device, which has random numbers of its own, and torch."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            self._xla_model.set_rng_state(number, str(self._device))
            yield

    def computed_again(self, forward: Callable[[Tensor], Tensor], tokens: Shaped[Tensor, "..."]) -> Tensor:
        """Use torch_xla's checkpoint: torch's own fails on XLA in 2.9."""
        checkpoint = import_module("torch_xla.utils.checkpoint").checkpoint
        changed: Tensor = checkpoint(forward, tokens, use_reentrant=True)
        return changed

    def to_host(self, tensor: Shaped[Tensor, "..."]) -> Shaped[np.ndarray, "..."]:
        """Copy back whole, which waits for the device; a slice of it taken on the device would be another program."""
        return tensor.cpu().numpy()

    def send(self, tensor: Shaped[Tensor, "..."]) -> Callable[[], Shaped[np.ndarray, "..."]]:
        """Take the result when it is asked for: the runtime then waits for the program that makes it alone."""
        return lambda: self.to_host(tensor)

    def peak_memory_bytes(self) -> int:
        """Give the peak of the device's memory, or of the process where XLA runs on the CPU."""
        if self._kind == "CPU":
            return process_peak_bytes()
        memory = self._xla_model.get_memory_info(self._device)
        return int(memory.get("peak_bytes_used", memory["bytes_used"]))

    @property
    def prefers_bf16(self) -> bool:
        """Say whether it is a TPU."""
        return self._kind == "TPU"

    def memory_bytes(self) -> int | None:
        """Give what the runtime allows itself of a TPU chip, or what its kind has; None of XLA on the CPU."""
        if self._kind != "TPU":
            return None
        try:
            limit = self._xla_model.get_memory_info(self._device).get("bytes_limit")
        except RuntimeError:  # several chips as one device have no such number
            limit = None
        return int(limit) if limit else chip_memory_bytes(accelerator_type())

    def free_memory_bytes(self) -> int | None:
        """Give None: what a program needs is known only once it is compiled."""
        return None

    def is_out_of_memory(self, error: RuntimeError) -> bool:
        """Tell by XLA's status."""
        return OUT_OF_MEMORY in str(error)

    def forget_freed(self) -> None:
        """Do nothing: XLA frees by itself."""

    def compilations(self) -> int:
        """Count compiled programs; one that came from the cache folder is not counted."""
        return self._compiled() - self._compiled_before

    def fallbacks(self) -> Mapping[str, int]:
        """Count the operators, such as "aten::nonzero", that torch_xla cannot lower and computes on the host."""
        before = self._fallen_back_before
        return {name: n - before.get(name, 0) for name, n in self._fallen_back().items() if n > before.get(name, 0)}

    def _take_chips(self) -> None:
        """Take one chip, unless this process has one already."""
        take_chip(0)

    def _compiled(self) -> int:
        data = self._metrics.metric_data("CompileTime")
        return int(data[0]) if data else 0

    def _fallen_back(self) -> dict[str, int]:
        names = [name for name in self._metrics.counter_names() if name.startswith("aten::")]
        return {name: int(self._metrics.counter_value(name)) for name in names}


def _import_torch_xla() -> tuple[Any, ...]:
    names = ("torch_xla", "torch_xla.core.xla_model", "torch_xla.runtime", "torch_xla.debug.metrics")
    try:
        return tuple(import_module(name) for name in (*names, "torch_xla.backends"))
    except ModuleNotFoundError as error:
        raise DeviceError(f"device xla: expected torch_xla, got no module {error.name}; {INSTALL}") from error
    except ImportError as error:
        raise DeviceError(
            f"device xla: expected torch_xla 2.9 with torch 2.9, got one that torch {torch.__version__} cannot load "
            f"({error}); {INSTALL}"
        ) from error


def _keep_programs(runtime: Any) -> None:
    """Say once a process, before anything is computed, where programs are kept; a place already said stays."""
    if CACHE_VARIABLE not in os.environ:
        runtime.initialize_cache(str(cache_folder(runtime.process_index())))


def cache_folder(process_index: int) -> Path:
    """Make a folder for this process alone: two that write into one may read each other's half-written programs."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chips = os.environ.get(VISIBLE_CHIPS, "all").replace(",", "-")
    folder = root / "octprobe" / f"torch_xla-{version('torch_xla')}" / f"process-{process_index}-chips-{chips}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
