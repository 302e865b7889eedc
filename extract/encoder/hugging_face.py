"""A folder as Hugging Face stores a model: config.json beside model.safetensors."""

import json
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from embeddings_store.grid import Grid
from embeddings_store.regular_file import require_regular
from extract.encoder.claims import Claims
from extract.encoder.families import FAMILIES
from extract.encoder.family import Family
from extract.encoder.foreign import shorten
from extract.encoder.safetensors_file import SafetensorsFile, open_safetensors
from extract.encoder.unpickle import MOST
from extract.errors import CheckpointError

CONFIG, WEIGHTS = "config.json", "model.safetensors"

MODEL_TYPES = {kind.model_type: kind for kind in FAMILIES.values() if kind.model_type is not None}


class HuggingFaceFolder:
    """A folder's weights, with what its config says; see WeightFile."""

    facts: Mapping[str, Any] = {}

    def __init__(self, source: str, claims: Claims, weights: SafetensorsFile) -> None:
        self.source, self.claims, self._weights = source, claims, weights
        self.contents, self.shapes = weights.contents, weights.shapes

    def read(self, name: str) -> Shaped[Tensor, "..."]:
        """Read one tensor."""
        return self._weights.read(name)


@contextmanager
def open_hugging_face(path: Path) -> Iterator[HuggingFaceFolder]:
    """Open for reading; CheckpointError for another folder, another model, or damaged files."""
    source = path.resolve().name
    claims = claims_of_config_json(_read_config(path / CONFIG, source), source)
    _require_weights(path, source)
    with open_safetensors(path / WEIGHTS) as weights:
        yield HuggingFaceFolder(source, claims, weights)


def claims_of_config_json(config: Mapping[str, Any], source: str) -> Claims:
    """Read family and sizes from a config.json; the vision part of one that has several.

    Raises CheckpointError that names the field, what was expected and what came.
    """
    config = config["vision_config"] if isinstance(config.get("vision_config"), Mapping) else config
    kind = MODEL_TYPES.get(str(config.get("model_type")))
    if kind is None:
        raise _refusal(source, "model_type", f"one of {', '.join(map(repr, MODEL_TYPES))}", config.get("model_type"))
    for field, expected in kind.config.items():
        # What transformers' defaults are, a config may leave out; V-JEPA 2's never do.
        if (found := config.get(field, None if kind.asks else expected)) != expected:
            raise _refusal(source, field, f"{expected!r}, which is what family {kind.name} computes", found)
    return _claims_of_video(config, kind, source) if kind.asks else _claims_of_picture(config, kind, source)


def _claims_of_video(config: Mapping[str, Any], kind: Family, source: str) -> Claims:
    """Read V-JEPA 2's sizes; a clip of frames_per_clip frames is the volume."""
    if strange := [field for field in config if "rope" in field.lower() or "rotary" in field.lower()]:
        raise _refusal(source, strange[0], "no such field (positions as in V-JEPA 2)", config[strange[0]])
    tubelet, patch = _count(config, "tubelet_size", source), _count(config, "patch_size", source)
    frames, side = _count(config, "frames_per_clip", source), _count(config, "crop_size", source)
    width = _count(config, "hidden_size", source)
    image_size: Grid = (frames, side, side)
    return Claims(
        family=kind.name,
        heads=_count(config, "num_attention_heads", source),
        image_size=image_size,
        patch=(tubelet, patch, patch),
        width=width,
        depth=_count(config, "num_hidden_layers", source),
        mlp_width=int(width * _ratio(config, source)),
    )


def _claims_of_picture(config: Mapping[str, Any], kind: Family, source: str) -> Claims:
    """Read the sizes of an encoder of pictures, where they are not left out as transformers' defaults are."""
    counts = {
        field: _count(config, field, source) if field in config else None
        for field in ("num_attention_heads", "hidden_size", "num_hidden_layers", "patch_size", "intermediate_size")
    }
    patch, width, mlp_width = counts["patch_size"], counts["hidden_size"], counts["intermediate_size"]
    if mlp_width is None and width is not None and "mlp_ratio" in config:
        mlp_width = int(width * _ratio(config, source))
    return Claims(
        family=kind.name,
        heads=counts["num_attention_heads"],
        patch=None if patch is None else (1, patch, patch),
        width=width,
        depth=counts["num_hidden_layers"],
        mlp_width=mlp_width,
    )


def _read_config(path: Path, source: str) -> Mapping[str, Any]:
    try:
        require_regular(path)
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{source} is a directory without {CONFIG}; expected the .pt or .safetensors file of an encoder, or the "
            f"folder of a Hugging Face model with {CONFIG} and {WEIGHTS}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{source}: {CONFIG} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{source}: {CONFIG} is no JSON ({shorten(error)}); copy the folder again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{source}: {CONFIG}: expected a JSON object, got {type(config).__name__}")
    return config


def _require_weights(path: Path, source: str) -> None:
    weights = path / WEIGHTS
    if not weights.is_file():
        others = sorted(
            entry.name for entry in path.iterdir() if entry.suffix in (".bin", ".json", ".pt", ".safetensors")
        )
        raise CheckpointError(
            f"{source}: expected the weights in one file {WEIGHTS}, got {', '.join(others)}; save the model again with "
            "transformers as one .safetensors file"
        )
    with weights.open("rb") as stream:
        if stream.read(23) == b"version https://git-lfs":
            raise CheckpointError(f"{source}: {WEIGHTS} is a git-lfs pointer, not the weights; run git lfs pull")


def _count(config: Mapping[str, Any], field: str, source: str) -> int:
    value = config.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MOST:
        raise _refusal(source, field, "a whole number from 1", value)
    return value


def _ratio(config: Mapping[str, Any], source: str) -> float:
    value = config.get("mlp_ratio")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1000:
        raise _refusal(source, "mlp_ratio", "a number above 0", value)
    return float(value)


def _refusal(source: str, field: str, expected: str, found: object) -> CheckpointError:
    words = f"expected {expected}, got {shorten(reprlib.repr(found))}"
    return CheckpointError(f"{source}: {CONFIG}: {field}: {words}; this model cannot be used as an encoder")
