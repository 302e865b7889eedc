"""torch.compile around the encoder for the time of a stage; names and weights of the model stay as they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from extract.device.backend import Backend
from extract.device.compiled import CompileMode, compiled_forward
from finetune.model.network import VolumeClassifier


@contextmanager
def compiling(
    model: VolumeClassifier, backend: Backend, mode: CompileMode, tell: Callable[[str], None]
) -> Iterator[None]:
    """Compile as extraction does: "auto" on a GPU in bf16. What is drawn at random is drawn as without.

    Raises DeviceError, at the first batch, where "on" was asked for and the compiler fails.
    """
    forward = compiled_forward(model.encoder, backend, mode, tell, precision="bf16" if model.bf16 else "fp32")
    if forward is model.encoder:
        yield
        return
    from torch._inductor import config

    model.encode = forward
    try:
        with config.patch(fallback_random=True):
            yield
    finally:
        model.encode = None
