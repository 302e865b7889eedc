"""A preprocessing preset: every step as data, part of the identity of the embedding space."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.yaml_file import read_mapping

Slices: TypeAlias = int | Literal["centre", "all"]
"""Which frames a slice encoder sees: so many, evenly spaced; the centre one, which is 1 of them; or every one."""

Edges: TypeAlias = tuple[int | float, int | float, int | float, int | float]
"""Two of rows, then two of columns of a stored frame: an int is pixels, a float from 0 to 1 a share of the side."""


@dataclass(frozen=True)
class Recipe:
    """What makes an encoder's input of a volume: the steps, and the size (D, H, W) in voxels."""

    preset: "Preset"
    image_size: Grid


@dataclass(frozen=True)
class Preset:
    """The steps between a stored volume and the encoder's input, in the order in which they are applied.

    mask: rectangles [first row, end row, first column, end column] of each stored frame that become 0.
    margins: what is cut off each stored frame, [top, bottom, left, right].
    rescale: slope and intercept of the file. move_long_axis: columns become frames where frames outnumber columns
    (a mistake of old fine-tuning). clip_quantile: clip to [0, this quantile of all voxels]. min_max: to [0, 1].
    power: raise to this power (needs min_max).
    frames: "blend" interpolates between frames; "even" takes stored frames, evenly spaced, the centre one among them.
    slices: the frames of a slice encoder, never repeated; None: an encoder of volumes, frames repeat where a volume
    has too few.
    resize: "trilinear" (blends frames), "bilinear", "bicubic"; half-pixel centres. antialias: as Pillow resizes, which
    widens its filter where it shrinks, and rounds 8-bit frames to whole grey levels.
    crop: the shorter side becomes size / crop, the aspect is kept, the centre is taken; None: the frame is squeezed.
    crop_up_to: sizes above it are cropped as if crop were 1.
    scale: divide by it; such presets take 8-bit frames only.
    per_slice: "min_max" or "z_score" (population) of each frame by itself; a constant frame gives zeros.
    z_score: over all voxels of the result, population standard deviation, divided by 1 where that is 0.
    mean, std: subtract, then divide, by channel. channels: 1, or 3 equal ones before mean and std.
    """

    name: str
    rescale: bool = False
    move_long_axis: bool = False
    clip_quantile: float | None = None
    min_max: bool = False
    power: float | None = None
    resize: str = "trilinear"
    z_score: bool = False
    antialias: bool = False
    frames: str = "blend"
    slices: Slices | None = None
    crop: float | None = None
    crop_up_to: int | None = None
    scale: float | None = None
    per_slice: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: int = 1
    margins: Edges | None = None
    mask: tuple[Edges, ...] = ()

    @property
    def needs_all_frames(self) -> bool:
        """Tell whether some step before the resize looks at every voxel."""
        return self.move_long_axis or self.clip_quantile is not None or self.min_max

    @property
    def image_size(self) -> Grid:
        """Give the encoder's input (D, H, W) where nobody says another."""
        depth, side = IMAGE_SIZES.get(self.name, DEFAULT_SIZE)
        return self.slices if isinstance(self.slices, int) else depth, side, side

    def to_dict(self) -> dict[str, Any]:
        """Give the fields in plain JSON types, for the embedding space; later fields only where they do something."""
        unused = {field.name for field in fields(self)[_FIRST:] if getattr(self, field.name) == field.default}
        return {name: value for name, value in asdict(self).items() if name not in unused}

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
        preset = cls(**{name: _frozen(name, value) for name, value in raw.items()})
        for is_wrong, words in _CONTRADICTIONS:
            if is_wrong(preset):
                raise UsageError(f"preset {preset.name!r}: {words}")
        return preset


_FIRST = 8
"""Fields that every embedding space has; those after them came later."""

_PICTURES = ("bilinear", "bicubic")
_CONTRADICTIONS: tuple[tuple[Callable[[Preset], bool], str], ...] = (
    (lambda one: one.power is not None and not one.min_max, "power needs min_max, as negative values have no power"),
    (
        lambda one: (one.resize in _PICTURES) != (one.frames == "even"),
        "frames: even goes with resize: bilinear or bicubic, and trilinear with blend",
    ),
    (lambda one: one.move_long_axis and one.frames == "even", "move_long_axis needs frames: blend"),
    (lambda one: one.slices is not None and one.frames != "even", "slices are stored frames: they need frames: even"),
    (lambda one: one.antialias and one.resize not in _PICTURES, "antialias needs resize: bilinear or bicubic"),
    (lambda one: one.crop is not None and one.resize not in _PICTURES, "crop needs resize: bilinear or bicubic"),
    (lambda one: one.crop_up_to is not None and one.crop is None, "crop_up_to needs crop"),
    (lambda one: one.per_slice is not None and one.frames != "even", "per_slice needs frames: even"),
    (lambda one: one.scale is not None and one.min_max, "scale divides grey levels, but min_max makes them 0 to 1"),
    (lambda one: (one.mean is None) != (one.std is None), "mean and std need each other"),
    (
        lambda one: any(values is not None and len(values) != one.channels for values in (one.mean, one.std)),
        "mean and std need one number per channel",
    ),
)


def _frozen(name: str, value: Any) -> Any:
    """Make lists hashable, and whole numbers floats where a number is meant."""
    if name in ("clip_quantile", "power", "scale", "crop") and value is not None:
        return float(value)
    if name in ("mean", "std") and value is not None:
        return tuple(map(float, value))
    if name == "slices" and value == "centre":
        return 1
    return tuple(map(tuple, value)) if name == "mask" else tuple(value) if isinstance(value, list) else value


def _is_number(value: object, low: int | float, high: int | float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low < value <= high


def _between(low: int | float, high: int | float) -> Callable[[object], bool]:
    return lambda value: value is None or _is_number(value, low, high)


def _one_of(*values: object) -> Callable[[object], bool]:
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are(is_good: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda values: (
        values is None or (isinstance(values, list | tuple) and bool(values) and all(map(is_good, values)))
    )


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def is_slices(value: object) -> bool:
    """Tell whether a value says which frames a slice encoder sees."""
    return _is_count(value) or value in ("centre", "all")


def is_edge(value: object) -> bool:
    """Tell whether a value is a whole number of pixels, or a share of a side."""
    is_pixels = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return is_pixels or (isinstance(value, float) and 0 <= value <= 1)


def _are_edges(values: object) -> bool:
    return isinstance(values, list | tuple) and len(values) == 4 and all(map(is_edge, values))


_FLAG = (_is_flag, "true or false")
_EDGES = "pixels (480) or shares (0.25)"
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "name": (_is_word, "a word"),
    "rescale": _FLAG,
    "move_long_axis": _FLAG,
    "min_max": _FLAG,
    "z_score": _FLAG,
    "antialias": _FLAG,
    "clip_quantile": (_between(0, 1), "a number above 0, at most 1, or null"),
    "power": (_between(0, 10), "a number above 0, at most 10, or null"),
    "scale": (_between(0, 65535), "a number above 0, at most 65535, or null"),
    "crop": (_between(0, 1), "a number above 0, at most 1, or null"),
    "crop_up_to": (_is_count, "a number of pixels from 1, or null"),
    "resize": (_one_of("trilinear", *_PICTURES), "trilinear, bilinear or bicubic"),
    "frames": (_one_of("blend", "even"), "blend or even"),
    "slices": (is_slices, "a number from 1, centre, all, or null"),
    "per_slice": (_one_of(None, "min_max", "z_score"), "min_max, z_score or null"),
    "mean": (_are(lambda value: _is_number(value, -1e6, 1e6)), "a list of numbers, or null"),
    "std": (_are(lambda value: _is_number(value, 0, 1e6)), "a list of numbers above 0, or null"),
    "channels": (_one_of(1, 3), "1 or 3"),
    "margins": (
        lambda value: value is None or _are_edges(value),
        f"[top, bottom, left, right] in {_EDGES}, or null",
    ),
    "mask": (
        lambda value: value in ([], ()) or (value is not None and _are(_are_edges)(value)),
        f"a list of [first row, end row, first column, end column] in {_EDGES}",
    ),
}

_IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "channels": 3}
_VISIONFM: dict[str, Any] = {"mean": (0.21091926, 0.21091926, 0.21091919), "std": (0.17598894, 0.17598891, 0.17598893)}
_PICTURE: dict[str, Any] = {"scale": 255.0, "frames": "even"}
_PIL: dict[str, Any] = {**_PICTURE, "antialias": True, "slices": 16}

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("pretrain", rescale=True, z_score=True),
        Preset("finetune_v0", move_long_axis=True, clip_quantile=0.99, min_max=True, power=0.8),
        Preset("retfound", resize="bicubic", crop=0.875, crop_up_to=224, **_PIL, **_IMAGENET),
        Preset("retfound_notebook", resize="bicubic", per_slice="z_score", channels=3, **_PIL),
        Preset("octcube", scale=255.0),
        Preset("mirage", resize="bilinear", per_slice="min_max", **_PIL),
        Preset("imagenet", resize="bicubic", crop=0.875, **_PIL, **_IMAGENET),
        Preset("siglip", resize="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, channels=3, **_PIL),
        Preset("visionfm", resize="bilinear", channels=3, **_VISIONFM, **_PIL),
        Preset("vjepa2", resize="bilinear", crop=0.875, **_PICTURE, **_IMAGENET),
    )
}
"""What each published encoder saw when it was trained or judged by its authors.

Source: fixtures/preprocess and fixtures/encoders; docs/encoders.md lists them. "finetune_v0" is the earlier
fine-tuning's path (its recorded outputs), kept only to compare with old results.
"""

DEFAULT_SIZE = (64, 384)
IMAGE_SIZES = {
    "retfound": (16, 224),
    "retfound_notebook": (16, 224),
    "octcube": (60, 256),
    "mirage": (16, 512),
    "imagenet": (16, 224),
    "siglip": (16, 224),
    "visionfm": (16, 224),
    "vjepa2": (64, 256),
}
"""Frames, and rows or columns, of the published encoders of these presets."""

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


def require_plain(views: int, preset: str) -> None:
    """Refuse augmented views of volumes that another preset prepared. Raises UsageError."""
    if preset != DEFAULT:
        raise UsageError(
            f"--views {views}: views are made with the intensities of the preset {DEFAULT}, got {preset!r}"
        )
