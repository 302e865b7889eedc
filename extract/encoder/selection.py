"""Which family's encoder a file holds, and the strict comparison of its names and shapes with that family's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from extract.encoder.architecture import block_shapes, shape_text
from extract.encoder.families import FAMILIES, find_family
from extract.encoder.family import Family
from extract.encoder.foreign import shorten
from extract.encoder.names import (
    canonical_names,
    describe_contents,
    matches,
    rename,
    select_names,
    some_names,
    unwrap,
)
from extract.encoder.torch_archive import STATE_KEYS
from extract.encoder.weight_file import WeightFile
from extract.errors import CheckpointError

PATCH = "patch_embed.proj.weight"
OWN_TUBELET = 2
"""Frames of a patch of all V-JEPA video encoders, and of none that the trainer writes without saying so."""

BLOCK = re.compile("[0-9]{1,4}")
"""The number of a block; a longer one is none, as it would stand for more tensors than memory holds."""

LORA = r"(?i).*(lora_?[ab]|\bbase_layer\.).*"
"""Names of adapters, and of the weights that they add to, as PEFT and others write them."""

DINO = r"(last_layer\d*|mlp)(\..*)?"

HEADS = (
    (rf"(.*\.)?{DINO}", "a DINO head without its backbone: use the file of the backbone"),
    (
        rf"(.*\.)?({DINO}|(heads?|classifier|fc|fc_norm)(\..*)?)",
        "a head without an encoder: use the file it was trained on",
    ),
)
"""What a file without any encoder may be: a pattern that all names match, and what to say."""


@dataclass(frozen=True, slots=True)
class FileNames:
    """The tensors of a file, by name without wrappers."""

    file: WeightFile
    unwrapped: Mapping[str, str]

    @property
    def seen(self) -> str:
        """Tell what lies in the file."""
        return describe_contents(self.file.contents, self.file.shapes)


@dataclass(frozen=True, slots=True)
class Selected:
    """An encoder's tensors: by canonical name the file's own name, and the name that a person knows it by."""

    own: Mapping[str, str]
    plain: Mapping[str, str]

    def called(self, name: str) -> str:
        """Give the file's word for a canonical name, also of a tensor that is missing, by what its siblings say."""
        if name in self.plain:
            return self.plain[name]
        for other, plain in self.plain.items():
            if _without_number(other) == _without_number(name):
                return re.sub(r"(?<=\.)\d+(?=\.)", name.split(".")[1], plain, count=1)
        stem, _, end = name.rpartition(".")
        other = f"{stem}.{'weight' if end == 'bias' else 'bias'}"
        return self.plain[other].rpartition(".")[0] + f".{end}" if other in self.plain else name


def _without_number(name: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", name, count=1)


def read_names(file: WeightFile) -> FileNames:
    """Look at a file's names. Raises CheckpointError where two tensors have one name."""
    return FileNames(file, unwrap(file.shapes, file.source))


def choose_family(names: FileNames, typed: str | None) -> Family:
    """Give the family that was typed, or that the file states, or the only one whose signature fits.

    Raises CheckpointError that says what lies in the file, and which families it may be.
    """
    source, stated = names.file.source, names.file.claims.family
    if typed is not None and stated is not None and typed != stated:
        raise CheckpointError(f"{source} is a file of {stated}, not of {typed}; say --encoder {stated}")
    if (name := typed or stated) is not None:
        if (kind := find_family(name)) is None:
            raise CheckpointError(
                f"{source}: expected an encoder of family {', '.join(FAMILIES)}, got {name!r}; "
                "was it written by a newer octprobe, or with a family of one's own?"
            )
        return kind
    fitting = fitting_families(names) or [kind for kind in FAMILIES.values() if _fits(names, kind, believed=True)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        listed = " or ".join(kind.name for kind in fitting)
        raise CheckpointError(
            f"{source} may be {listed}: their files have equal names and another arithmetic; say --encoder "
            f"{' or --encoder '.join(kind.name for kind in fitting)}; {names.seen}"
        )
    if PATCH in names.unwrapped and "pos_embed" in names.unwrapped:
        return FAMILIES["vjepa3d"]  # whose refusal names what is amiss
    raise CheckpointError(
        f"{source} holds no context encoder, nor one of a family that is known here ({', '.join(FAMILIES)}): "
        f"got {some_names(names.unwrapped)}{_looks_like(names)}; {names.seen}; point to a file of one encoder, or of a "
        "trainer that holds one"
    )


def fitting_families(names: FileNames) -> list[Family]:
    """List the families whose signature fits: names that must be there, names that must not, the kind of patch."""
    return [kind for kind in FAMILIES.values() if _fits(names, kind)]


def _fits(names: FileNames, kind: Family, *, believed: bool = False) -> bool:
    """Compare with a signature; believed: only with what a file of the family never has, and its tensors' names."""
    for key in dict.fromkeys((*kind.keys, *kind.context, *kind.target)):
        below = select_names(names.unwrapped, key)
        if _holds(below, kind) and not any(matches(below, one) for one in kind.lacks):
            if believed:
                return _is_complete(names, Selected(canonical_names(below, kind), {}), kind)
            if all(matches(below, one) for one in kind.has) and _has_own_patches(below, names.file.shapes, kind):
                return True
    return False


def _is_complete(names: FileNames, chosen: Selected, kind: Family) -> bool:
    try:
        _compare(names, chosen, kind, "")
    except CheckpointError:
        return False
    return True


def _has_own_patches(below: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], kind: Family) -> bool:
    own = canonical_names(below, kind)
    patch = shapes[own[PATCH]] if PATCH in own else None
    rows = shapes[below["pos_embed"]][1:2] if "pos_embed" in below else ()
    elsewhere = [
        other for other in FAMILIES.values() if kind.published_rows and rows and rows[0] in other.published_rows
    ]
    if elsewhere and kind not in elsewhere:
        return False
    return patch is None or (len(patch) == (4 if kind.slices else 5) and patch[1] == kind.channels)


def _holds(below: Mapping[str, str], kind: Family) -> bool:
    own = {rename(name, kind) for name in below}
    return "pos_embed" in own or any(name.startswith("patch_embed.") for name in own)


def select_encoder(names: FileNames, kind: Family, which: str | None) -> Selected:
    """Map the encoder's canonical tensor names to the file's own names.

    which: None (the one that the family's own code reads), "context", "target" or a top key of the file.
    Raises CheckpointError where it is not in the file, or the file is another family's.
    """
    source = names.file.source
    keys = {None: kind.keys, "context": kind.context or kind.keys, "target": kind.target}.get(which)
    if keys is None:
        keys = ("",) if which in STATE_KEYS and which in names.file.contents else (which or "",)
    if not keys:
        raise CheckpointError(f"{source} holds no {which} encoder: a {kind.name} file has one encoder only")
    for key in keys:
        if _holds(below := select_names(names.unwrapped, key), kind):
            _refuse_foreign(names, below, kind)
            return Selected(canonical_names(below, kind), {rename(name, kind): name for name in below})
    word = f"{which or 'context'} encoder" if kind.target else "encoder"
    wanted = " or ".join(f"{key}.*" if key else "pos_embed, patch_embed.*, blocks.*" for key in keys)
    raise CheckpointError(
        f"{source} holds no {word} of {kind.name}: expected tensors named {wanted}, "
        f"got {some_names(names.unwrapped)}{_looks_like(names)}{candidates(names, kind)}; {names.seen}; point to a "
        "file of the trainer, or of one encoder"
    )


def _refuse_foreign(names: FileNames, below: Mapping[str, str], kind: Family) -> None:
    if adapter := next((name for name in below if matches([name], LORA)), None):
        raise CheckpointError(
            f"{names.file.source}: tensor {shorten(adapter)}: it holds a LoRA adapter beside the encoder's weights, "
            "which are not the trained ones without it: merge the adapter into its model first, and save that"
        )
    foreign = next((name for name in below if any(matches([name], one) for one in kind.lacks)), None)
    if foreign is not None:
        raise CheckpointError(
            f"{names.file.source}: unexpected tensor {shorten(foreign)}: this is no {kind.name} file"
            f"{candidates(names, kind)}; {names.seen}"
        )


def candidates(names: FileNames, kind: Family) -> str:
    """Name the other families that a refused file may be of; empty where there are none."""
    others = [other.name for other in fitting_families(names) if other is not kind]
    return f"; it looks like {' or '.join(others)}: say --encoder {' or '.join(others)}" if others else ""


def require_complete(names: FileNames, chosen: Selected, kind: Family) -> None:
    """Compare names and shapes with the encoder that they imply.

    Raises CheckpointError that names the first tensor that is missing, unexpected or of another shape, and the family
    that the file is of.
    """
    _compare(names, chosen, kind, f"{candidates(names, kind)}; {names.seen}")


def _compare(names: FileNames, chosen: Selected, kind: Family, more: str) -> None:
    shapes, source = {name: names.file.shapes[one] for name, one in chosen.own.items()}, names.file.source
    width = _read_patch(shapes, kind, source, more)
    expected = _expected(shapes, kind, width)
    if missing := [name for name in expected if not name.endswith("?") and name not in shapes]:
        raise CheckpointError(
            f"{source}: tensor {chosen.called(missing[0])} is missing ({len(missing)} of {len(expected)} are); nothing "
            f"is filled in with random numbers: use a complete checkpoint{more}"
        )
    known = {name.removesuffix("?"): shape for name, shape in expected.items()}
    if unexpected := [name for name in shapes if name not in known]:
        raise CheckpointError(
            f"{source}: unexpected tensor {shorten(chosen.called(unexpected[0]))} (one of {len(unexpected)}): this "
            f"is another architecture than {kind.name}; it cannot be used{more}"
        )
    for name, shape in shapes.items():
        wanted = known[name]
        if len(wanted) != len(shape) or any(one not in (None, size) for one, size in zip(wanted, shape, strict=True)):
            text = "x".join("any" if one is None else str(one) for one in wanted) or "scalar"
            called = chosen.called(name)
            raise CheckpointError(f"{source}: tensor {called}: expected shape {text}, got {shape_text(shape)}{more}")


def depth_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Count the blocks by their highest number."""
    numbers = [name.split(".")[1] for name in shapes if name.startswith("blocks.")]
    return 1 + max((int(number) for number in numbers if BLOCK.fullmatch(number)), default=0)


def _expected(shapes: Mapping[str, tuple[int, ...]], kind: Family, width: int) -> dict[str, tuple[int | None, ...]]:
    depth, patch = depth_of(shapes), shapes[PATCH]
    mlp_width = shapes.get("blocks.0.mlp.fc1.weight", (4 * width,))[0]
    found: dict[str, tuple[int | None, ...]] = {PATCH: patch, "patch_embed.proj.bias": (width,)}
    for name, text in kind.extra.items():
        words = {"*": None, "C": width, "P": patch[-1]}
        found[name] = tuple(words[word] if word in words else int(word) for word in text.split())
    found |= block_shapes(width, depth, mlp_width, () if kind.end == "none" else ("norm",))
    for block in range(depth):
        at = f"blocks.{block}."
        if kind.layer_scale:
            found |= {f"{at}ls1": (width,), f"{at}ls2": (width,)}
        if f"{at}attn.q.weight" in shapes:
            del found[f"{at}attn.qkv.weight"], found[f"{at}attn.qkv.bias"]
            for part in "qkv":
                found[f"{at}attn.{part}.weight"] = (width, width)
                if part != "k" or kind.key_bias:
                    found[f"{at}attn.{part}.bias"] = (width,)
    return found


def _read_patch(shapes: Mapping[str, tuple[int, ...]], kind: Family, source: str, more: str) -> int:
    shape = shapes.get(PATCH)
    if shape is None:
        raise CheckpointError(f"{source}: tensor {PATCH} is missing; use a complete checkpoint{more}")
    axes = 4 if kind.slices else 5
    if len(shape) != axes:
        is_flat = "a 2D model, whose patches have no depth; use a 3D encoder"
        kind_of = "another architecture" if len(shape) not in (4, 5) else is_flat if axes == 5 else "a 3D model"
        raise CheckpointError(
            f"{source}: tensor {PATCH}: expected {'five' if axes == 5 else 'four'} axes (width, channels, and the "
            f"patch's {axes - 2}), got {shape_text(shape)}: {kind_of}{more}"
        )
    if shape[1] != kind.channels:
        wanted = "one grey channel" if kind.channels == 1 else f"{kind.channels} channels"
        raise CheckpointError(
            f"{source}: tensor {PATCH}: expected {wanted}, got {shape[1]}; use a {kind.name} encoder{more}"
        )
    return shape[0]


def _looks_like(names: FileNames) -> str:
    listed = list(names.unwrapped)
    if matches(listed, LORA):
        return "; it looks like a LoRA adapter, which holds no encoder: merge it into its model first"
    found = (words for pattern, words in HEADS if listed and all(matches([name], pattern) for name in listed))
    return next((f"; it looks like {words}" for words in found), "")
