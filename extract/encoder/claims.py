"""What a checkpoint says about itself beside its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embeddings_store.grid import Grid
from extract.encoder.unpickle import MOST, Inert

MOST_DIGITS = 9
"""Of a size in a file's metadata: more is none, and Python reads no number of 5,000."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Sizes that a file states; None where it does not. image_size and patch in voxels (D, H, W)."""

    family: str | None = None
    heads: int | None = None
    image_size: Grid | None = None
    patch: Grid | None = None
    width: int | None = None
    depth: int | None = None
    mlp_width: int | None = None
    weights_sha256: str | None = None


def claims_of_config(config: object) -> Claims:
    """Read the trainer's config, whose values may be OmegaConf objects made inert by the unpickler."""
    plain = _content(config)
    if not isinstance(plain, Mapping):
        return Claims()
    return Claims(
        heads=_count(plain.get("num_heads")),
        image_size=_grid(plain.get("image_size")),
        patch=_grid(plain.get("patch_size")),
        width=_count(plain.get("embed_dim")),
        depth=_count(plain.get("depth")),
    )


def claims_of_metadata(metadata: Mapping[str, str]) -> Claims:
    """Read the metadata of a .safetensors file, where every value is text: num_heads "12", image_size "64,384,384"."""
    return Claims(
        family=metadata.get("family"),
        heads=_count(_number(metadata.get("num_heads", ""))),
        image_size=_grid([_number(part) for part in metadata.get("image_size", "").split(",")]),
        patch=_grid([_number(part) for part in metadata.get("patch_size", "").split(",")]),
        weights_sha256=metadata.get("weights_sha256"),
    )


def _content(value: object) -> Any:
    """Unwrap one level of OmegaConf: containers keep ``_content``, leaves keep ``_val``."""
    if isinstance(value, Inert) and isinstance(value.state, Mapping):
        return value.state.get("_content", value.state.get("_val"))
    return value


def _count(value: object) -> int | None:
    plain = _content(value)
    return plain if isinstance(plain, int) and not isinstance(plain, bool) and abs(plain) < MOST else None


def _grid(value: object) -> Grid | None:
    plain = _content(value)
    if not isinstance(plain, list | tuple) or len(plain) != 3:
        return None
    depth, height, width = (_count(side) for side in plain)
    return None if depth is None or height is None or width is None else (depth, height, width)


def _number(text: str) -> int | None:
    return int(text) if len(text) <= MOST_DIGITS and text.strip().isdecimal() else None
