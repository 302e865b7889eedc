"""The embedding space: everything that changes the numbers, and nothing else."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any, TypeGuard

from embeddings_store.errors import StoreError
from embeddings_store.grid import Grid
from embeddings_store.token_codec import cosine_error_bound, token_codec

SPACE_VERSION = 1
MOST, MOST_NAMES, LONGEST_TEXT = 1_000_000, 1_000, 256
"""What a field of a space may hold at most: far above any encoder, far below what would exhaust a machine."""
"""Of what the fields mean. It is in the id of every space, so it changes only when the same fields name other numbers;
the layout of a store has a version of its own (schema.SCHEMA_VERSION)."""

VIEW = "@view"
"""Between the name of a pool and the number, from 1, of the augmented view of the volume that it was pooled over."""

ADDED = ("token_cosine_error", "views")
"""Fields that came later. They are not in the JSON where they are None, so that spaces from before keep their ids."""


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """Where a vector lives; two vectors may be compared only when their spaces are equal.

    family: "vjepa3d", "vjepa2". weights_sha256: digest of the encoder's tensors (not of the file).
    image_size, patch: voxels (D, H, W). width: channels C. preset: every field of the preprocessing preset.
    layers: block numbers from "1", and "last" (after the final norm). pools: "mean", "max", "std", "cls"; with views
    also "mean@view1" and so on, every pool of the first view, then of the next. views: how the augmented views are made
    (count, seed, recipe); None without any.
    token_grid: stored grid (gd, gh, gw), None when tokens are not stored. precision: "fp32" or "bf16".
    token_dtype: "float16" or "int8". token_cosine_error: the most that 1 - cosine of a stored token and the encoder's
    may be, by the codec; worked out here for "int8", None (and not in the JSON) for "float16".

    >>> import octprobe
    >>> space = octprobe.open_store("store").space
    >>> octprobe.EmbeddingSpace.from_dict(space.to_dict()).id == space.id
    True
    """

    family: str
    weights_sha256: str
    image_size: Grid
    patch: Grid
    width: int
    depth: int
    heads: int
    preset: Mapping[str, Any]
    layers: tuple[str, ...]
    pools: tuple[str, ...]
    token_grid: Grid | None
    precision: str
    pooled_dtype: str = "float32"
    token_dtype: str = "float16"
    schema_version: int = SPACE_VERSION
    token_cosine_error: float | None = None
    views: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        # As it comes back from the store's JSON, so that a preset with tuples equals itself after a round trip.
        object.__setattr__(self, "preset", json.loads(json.dumps(dict(self.preset))))
        if self.views is not None:
            object.__setattr__(self, "views", json.loads(json.dumps(dict(self.views))))
        lossy = token_codec(self.token_dtype).lossy and self.token_grid is not None
        object.__setattr__(self, "token_cosine_error", cosine_error_bound(self.width) if lossy else None)

    @property
    def id(self) -> str:
        """Short name of the space: 16 hex digits of the sha256 of its canonical JSON."""
        return sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def plain_pools(self) -> tuple[str, ...]:
        """The pools of the volume itself, without those of its augmented views."""
        return tuple(name for name in self.pools if VIEW not in name)

    @property
    def view_count(self) -> int:
        """How many augmented views of each volume are stored beside it."""
        return len(self.pools) // max(1, len(self.plain_pools)) - 1

    def to_json(self) -> str:
        """Write canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, ready for group attributes."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {name: value for name, value in plain.items() if name not in ADDED or value is not None}

    @classmethod
    def from_dict(cls, raw: object) -> "EmbeddingSpace":
        """Read what to_dict wrote; a missing, unknown or impossible field is a StoreError that names it."""
        if not isinstance(raw, Mapping):
            raise StoreError(f"embedding space: expected named fields, got {type(raw).__name__}; is this a store?")
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - raw.keys() - set(ADDED)):
            raise StoreError(f"embedding space: expected the field {missing[0]!r}, got none; is this a store?")
        if unknown := sorted(raw.keys() - names):
            raise StoreError(
                f"embedding space: unknown field {unknown[0]!r}; was the store written by a newer octprobe?"
            )
        parsed: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
        for name, is_good in _RULES.items():
            if name in parsed and not is_good(parsed[name]):
                raise StoreError(
                    f"embedding space: the field {name!r} cannot be {parsed[name]!r:.80}; is this a store?"
                )
        return cls(**parsed)

    def differences(self, other: "EmbeddingSpace") -> list[str]:
        """List the fields that differ, one line each: "layers: ('last',) here, ('3', 'last') there"."""
        mine, theirs = self.to_dict(), other.to_dict()
        names = [field.name for field in fields(self) if mine.get(field.name) != theirs.get(field.name)]
        return [f"{name}: {mine.get(name)} here, {theirs.get(name)} there" for name in names]


def is_count(value: object, most: int = MOST) -> TypeGuard[int]:
    """Return whether a value of a document is a whole number from 1 to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT


def _is_grid(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == len(("D", "H", "W")) and all(is_count(size) for size in value)


def _are_names(value: object) -> bool:
    return isinstance(value, tuple) and 0 < len(value) <= MOST_NAMES and all(_is_text(name) for name in value)


_RULES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("family", "weights_sha256", "precision"), _is_text),
    **dict.fromkeys(("image_size", "patch"), _is_grid),
    **dict.fromkeys(("width", "depth", "heads", "schema_version"), is_count),
    **dict.fromkeys(("layers", "pools"), _are_names),
    "preset": lambda value: isinstance(value, Mapping),
    "token_grid": lambda value: value is None or _is_grid(value),
    "pooled_dtype": lambda value: value == "float32",
    "token_dtype": lambda value: value in ("float16", "int8"),
    "token_cosine_error": lambda value: value is None or (isinstance(value, float) and 0 < value < 1),
    "views": lambda value: value is None or isinstance(value, Mapping),
}
