"""A preprocessing preset: every step as data, part of the identity of the embedding space."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from embeddings_store.errors import UsageError
from embeddings_store.yaml_file import read_mapping


@dataclass(frozen=True)
class Preset:
    """The steps between a stored volume and the encoder's input, in the order in which they are applied.

    rescale: slope and intercept of the file. move_long_axis: columns become frames where frames outnumber columns
    (a mistake of old fine-tuning). clip_quantile: clip to [0, this quantile of all voxels]. min_max: to [0, 1].
    power: raise to this power (needs min_max). resize: "trilinear", half-pixel centres, no anti-aliasing.
    z_score: over all voxels of the result, population standard deviation, divided by 1 where that is 0.
    """

    name: str
    rescale: bool = False
    move_long_axis: bool = False
    clip_quantile: float | None = None
    min_max: bool = False
    power: float | None = None
    resize: str = "trilinear"
    z_score: bool = False

    @property
    def needs_all_frames(self) -> bool:
        """Tell whether some step before the resize looks at every voxel."""
        return self.move_long_axis or self.clip_quantile is not None or self.min_max

    def to_dict(self) -> dict[str, Any]:
        """Give every field in plain JSON types, for the embedding space."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[Any, Any]) -> "Preset":
        """Read the fields; a step that is not named is not done. Raises: UsageError for unknown fields and values."""
        names = [field.name for field in fields(cls)]
        if unknown := sorted(str(name) for name in set(raw) - set(names)):
            raise UsageError(f"preset: unknown field {unknown[0]!r}; known are {', '.join(names)}")
        if "name" not in raw:
            raise UsageError("preset: expected a field 'name', got none")
        for field, (is_good, expected) in _RULES.items():
            if field in raw and not is_good(raw[field]):
                raise UsageError(f"preset {raw['name']!r}: {field} must be {expected}; got {raw[field]!r}")
        if raw.get("power") is not None and not raw.get("min_max"):
            raise UsageError(f"preset {raw['name']!r}: power needs min_max, as negative values have no power")
        numbers = {name: float(raw[name]) for name in ("clip_quantile", "power") if raw.get(name) is not None}
        values: dict[str, Any] = dict(raw) | numbers
        return cls(**values)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_resize(value: object) -> bool:
    return value == "trilinear"


def _is_quantile(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1)


def _is_power(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 10)


_FLAG = (_is_flag, "true or false")
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (_is_word, "a word"),
    "rescale": _FLAG,
    "move_long_axis": _FLAG,
    "min_max": _FLAG,
    "z_score": _FLAG,
    "clip_quantile": (_is_quantile, "a number above 0, at most 1, or null"),
    "power": (_is_power, "a number above 0, at most 10, or null"),
    "resize": (_is_resize, "trilinear"),
}

PRESETS = {
    "pretrain": Preset(name="pretrain", rescale=True, z_score=True),
    "finetune_v0": Preset(name="finetune_v0", move_long_axis=True, clip_quantile=0.99, min_max=True, power=0.8),
}
"""What the encoder was pretrained on, and the earlier fine-tuning's path, kept only to compare with old results.

Source: fixtures/preprocess; clipping and the power follow the earlier fine-tuning code's recorded outputs.
"""


DEFAULT = "pretrain"


def load_preset(name_or_file: str | None) -> Preset:
    """Give the preset of this name (None: the default), or read one from a YAML file. Raises: UsageError."""
    name_or_file = name_or_file or DEFAULT
    if name_or_file in PRESETS:
        return PRESETS[name_or_file]
    path = Path(name_or_file)
    if path.suffix not in {".yaml", ".yml"}:
        raise UsageError(f"preset {name_or_file!r} is unknown; expected {', '.join(PRESETS)} or a .yaml file")
    preset = Preset.from_dict(read_mapping(path, f"preset file {name_or_file!r}"))
    if preset.name in PRESETS and preset != PRESETS[preset.name]:
        raise UsageError(f"preset file {name_or_file!r}: the name {preset.name!r} belongs to a built-in preset")
    return preset
