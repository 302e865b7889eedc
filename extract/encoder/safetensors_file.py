"""Encoder weights in .safetensors: read, and written."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from embeddings_store.publish import published
from extract.encoder.claims import Claims, claims_of_metadata
from extract.encoder.encoder import Encoder
from extract.errors import CheckpointError


class SafetensorsFile:
    """A .safetensors file; see WeightFile. It says nothing about training beyond its metadata."""

    def __init__(self, source: str, handle: Any) -> None:
        metadata: Mapping[str, str] = handle.metadata() or {}
        self._handle = handle
        self.source = source
        self.claims: Claims = claims_of_metadata(metadata)
        self.facts: Mapping[str, Any] = {}
        self.contents: Mapping[str, int] = Counter(name.partition(".")[0] for name in handle.keys())  # noqa: SIM118 - no iterator
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(handle.get_slice(name).get_shape())
            for name in handle.keys()  # noqa: SIM118 - no iterator
        }

    def read(self, name: str) -> Shaped[Tensor, "..."]:
        """Read one tensor."""
        tensor: Tensor = self._handle.get_tensor(name)
        return tensor


@contextmanager
def open_safetensors(path: Path) -> Iterator[SafetensorsFile]:
    """Open for reading; CheckpointError when the file is cut off or damaged."""
    try:
        with safe_open(path, framework="pt", device="cpu") as handle:
            yield SafetensorsFile(path.name, handle)
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is a damaged .safetensors file ({error}); copy the file again") from error


def export_safetensors(encoder: Encoder, path: Path) -> None:
    """Write the encoder in use (float32), with everything that its tensors do not tell as metadata.

    The file appears complete or not at all.
    """
    architecture = encoder.architecture
    metadata = {
        "family": architecture.family,
        "num_heads": str(architecture.heads),
        "image_size": ",".join(map(str, architecture.image_size)),
        "patch_size": ",".join(map(str, architecture.patch)),
        "weights_sha256": encoder.weights_sha256,
    }
    with published(path) as aside:
        save_file(dict(architecture.kind.file_form(encoder.module.state_dict())), aside, metadata=metadata)
