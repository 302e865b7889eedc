"""The door to a file of weights: what kind it is, what it holds, and one tensor at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Shaped
from torch import Tensor

from embeddings_store.regular_file import require_regular
from extract.encoder.claims import Claims
from extract.errors import CheckpointError

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"


@runtime_checkable
class WeightFile(Protocol):
    """A file of named tensors whose numbers are read only when asked for."""

    @property
    def source(self) -> str:
        """What to call the file in messages."""

    @property
    def claims(self) -> Claims:
        """What it says about the encoder."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it says about its training."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """All tensors by the file's own names."""

    @property
    def contents(self) -> Mapping[str, int]:
        """Its top keys, and how many tensors lie below each."""

    def read(self, name: str) -> Shaped[Tensor, "..."]:
        """Read one tensor, in the dtype of the file; CheckpointError when it is damaged."""


@contextmanager
def open_weight_file(path: Path) -> Iterator[WeightFile]:
    """Open a .pt or .safetensors file by its content, or a Hugging Face folder; CheckpointError for anything else."""
    from extract.encoder.hugging_face import open_hugging_face
    from extract.encoder.safetensors_file import open_safetensors
    from extract.encoder.torch_archive import open_torch_archive

    if path.is_dir():
        with open_hugging_face(path) as folder:
            yield folder
        return
    start = _first_bytes(path)
    if start[:4] == ZIP_MAGIC:
        with open_torch_archive(path) as archive:
            yield archive
    elif start[8:9] == b"{":
        with open_safetensors(path) as tensors:
            yield tensors
    elif start[:1] == PICKLE_MAGIC:
        raise CheckpointError(
            f"{path.name} is a bare pickle (torch before 1.6), which is not read because its format cannot be read "
            "safely; expected a zip archive of torch.save or .safetensors: save it again with a newer torch"
        )
    else:
        raise CheckpointError(
            f"{path.name} is no checkpoint: expected a zip archive of torch.save or .safetensors, got a file that "
            f"starts with {start[:8].hex(' ')}; check the path, or copy the file again"
        )


def _first_bytes(path: Path) -> bytes:
    try:
        require_regular(path)
        with path.open("rb") as stream:
            start = stream.read(16)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path of the checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{path.name} is empty (0 bytes); copy the file again")
    return start
