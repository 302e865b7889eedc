"""torch.compile around an encoder's forward pass, where it pays, and given up by name where it fails."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import say
from extract.device.backend import Backend
from extract.errors import DeviceError

CompileMode = Literal["auto", "on", "off"]

Forward = Callable[..., Any]


def require_compilable(backend: Backend, mode: CompileMode) -> None:
    """Raise UsageError for "on" on XLA."""
    if mode == "on" and backend.static_shapes:
        raise UsageError(f"--compile on: device {backend.name} compiles by itself; leave it out")


def compiled_forward(
    module: nn.Module,
    backend: Backend,
    mode: CompileMode,
    tell: Callable[[str], None] = say,
    *,
    precision: str | None = None,
) -> Forward:
    """Give the module, or what compiles it at its first batch.

    "auto" compiles on a GPU in bf16: on the CPU it was measured slower, and XLA compiles by itself. Lack of memory and
    errors of the module pass through. precision: of the arithmetic, where it is not that of the back end's weights.
    Raises UsageError for "on" on XLA.
    """
    require_compilable(backend, mode)
    pays = (backend.name, precision or backend.precision) == ("cuda", "bf16")
    if mode == "off" or (mode == "auto" and not pays):
        return module
    tell("the encoder is compiled at its first batch, which takes longer; --compile off leaves that out")
    return _Compiled(module, must=mode == "on", tell=tell)


class _Compiled:
    """A module whose compilation may fail, which shows only when it is called."""

    def __init__(self, module: nn.Module, *, must: bool, tell: Callable[[str], None]) -> None:
        self._plain, self._must, self._tell = module, must, tell
        self._now: Forward = torch.compile(module)

    def __call__(self, *inputs: Any) -> Any:
        """Call what is compiled. Raises DeviceError where that fails and was asked for."""
        if self._now is self._plain:
            return self._plain(*inputs)
        try:
            return self._now(*inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
        if self._must:
            raise DeviceError(f"--compile on: torch.compile failed ({reason}); use --compile off, or auto")
        self._tell(f"--compile auto: torch.compile failed ({reason}); going on without it")
        self._now = self._plain
        return self._plain(*inputs)
