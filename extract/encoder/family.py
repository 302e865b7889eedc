"""What one published encoder is: where it comes from, how its file names things, and what its tensors do not tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import Tensor

from embeddings_store.errors import UsageError
from extract.encoder.family_rules import find_fault

Positions = Literal[
    "table_3d", "sincos_3d", "rotary", "rotary_21", "bicubic", "bicubic_antialias", "bicubic_offset", "fixed",
    "channels_first", "factorised", "axial",
]  # fmt: skip
"""How a token knows its place: a table (positions.py says how it is carried to another grid), or rotary.py."""

Activation = Literal["gelu", "gelu_tanh"]

End = Literal["norm", "none", "branch", "every"]
"""norm: "last" is after the final norm. none: there is none. branch: the last block gives its MLP branch without the
residual, then the norm. every: each block's tokens go through the final norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a person should know before using an encoder. weights: where the official file is.

    licence, citation: None of an own encoder, where whoever trained it knows. commercial: None where files differ.
    """

    title: str
    licence: str | None
    commercial: bool | None
    gated: bool
    citation: str | None
    weights: str

    def describe_terms(self) -> str:
        """Say the licence, and whether commercial use is allowed and the file is gated."""
        use = {True: "commercial use allowed", False: "no commercial use", None: "commercial use depends on the file"}
        gated = ", the file is gated" if self.gated else ""
        return f"{self.licence}, {use[self.commercial]}{gated}" if self.licence else "as whoever trained it says"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of encoder file; every family is a pre-norm vision transformer. Patterns match whole names.

    preset: the preprocessing that it was trained with; None: nobody knows. slices: frames go through one by one.
    frames, side: of the input where nobody says another (side None: the file's own). channels: of the patch embedding.
    keys: top keys of the encoder in use, "" for a bare one; the first that is there. context, target: where a file of
    a training run keeps the two. has, lacks: names that tell the family from others. ignored: names that the encoder
    does not use. renames: patterns, and what they become. extra: further tensors and their shapes, such as "1 * C"
    (C: the width, P: the patch; *: any); a name that ends in "?" may be absent.
    heads: by width and depth, as published. model_type, config: of a config.json; config holds what would change the
    arithmetic. published_rows: rows of the position tables of released files, where names alone do not tell.
    asks: another image size than the file's own only with --interpolate. teacher_follows: the target encoder follows
    the context encoder, so their distance does not tell whether training happened.
    file_form: from the module's tensors to those of the family's files, whose digest is the encoder's identity.
    """

    name: str
    card: Card
    preset: str | None
    positions: Positions
    frames: int | None
    side: int | None = None
    channels: int = 3
    slices: bool = False
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    keys: tuple[str, ...] = ("",)
    context: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[tuple[int, int], int] = field(default_factory=dict)
    eps: float = 1e-6
    activation: Activation = "gelu"
    end: End = "norm"
    layer_scale: bool = False
    key_bias: bool = True
    model_type: str | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    published_rows: frozenset[int] = frozenset()
    asks: bool = False
    teacher_follows: bool = True
    file_form: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict

    def __post_init__(self) -> None:
        for field_name, known in (("positions", Positions), ("end", End), ("activation", Activation)):
            if (value := getattr(self, field_name)) not in get_args(known):
                raise UsageError(
                    f"family {self.name}: {field_name}: expected {', '.join(get_args(known))}, got {value!r}"
                )
        if (fault := find_fault(self)) is not None:
            raise UsageError(f"family {self.name}: {fault}")

    @property
    def has_table(self) -> bool:
        """Say whether a table of positions is added to the tokens."""
        return self.positions not in ("rotary", "rotary_21", "axial")
