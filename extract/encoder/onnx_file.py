"""--encoder onnx:FILE: any encoder as an ONNX graph, run by onnxruntime on the CPU; its outputs are its layers."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from embeddings_store.errors import UsageError
from embeddings_store.extras import require
from embeddings_store.grid import Grid
from extract.encoder.architecture import LAST, Architecture
from extract.encoder.encoder import Encoder
from extract.encoder.families import OWN_FAMILIES
from extract.encoder.family import Card, Family
from extract.encoder.module import EncoderModule, prefix_of
from extract.errors import CheckpointError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Of operators that onnxruntime brings; others are custom ones."""

GRID, PREFIX = "grid", "prefix_tokens"
"""Entries of the file's metadata: "gd,gh,gw", and how many tokens stand before the patches'."""

DIGITS = 16


class OnnxModule(EncoderModule):
    """A graph that takes [B, C, D, H, W], or single B-scans [B, C, H, W], and gives tokens [B, N, C] or maps."""

    def __init__(self, architecture: Architecture, session: Any, source: str, batch: int | None) -> None:
        """Batch: the only number of pictures that the graph takes; None: any."""
        super().__init__(architecture)
        self._session, self._source, self._batch = session, source, batch

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxModule":
        """Refuse: back ends copy a module to move or to round it. Raises UsageError."""
        raise UsageError(f"{self._source}: an ONNX file runs on the CPU as it is; say --device cpu --precision fp32")

    def forward(
        self, volumes: Float[Tensor, "B channels D H W"], layers: Sequence[str] = (LAST,)
    ) -> dict[str, Float[Tensor, "B N C"]]:
        """See EncoderModule.forward; outputs are the layers "1", "2", ..., and the last one is "last" too."""
        self.require_input(volumes, layers)
        kind, prefix = self.architecture.kind, self.architecture.prefix
        if volumes.shape[1] == 1:
            volumes = volumes.expand(-1, kind.channels, -1, -1, -1)
        seen = volumes.transpose(1, 2).flatten(0, 1) if kind.slices else volumes
        outputs = self._run(seen.numpy())
        found: dict[str, Tensor] = {}
        for name in layers:
            tokens = torch.from_numpy(as_tokens(outputs[-1 if name == LAST else int(name) - 1]))
            found[name] = tokens[:, prefix:].reshape(len(volumes), -1, tokens.shape[-1])
            if prefix:
                found[prefix_of(name)] = tokens[:, :prefix].reshape(len(volumes), -1, tokens.shape[-1])
        return found

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        """Run as many at a time as the graph takes; what fills the last batch up is dropped again."""
        if self._batch is None:
            return run_graph(self._session, images, self._source)
        filled = np.concatenate([images, np.repeat(images[-1:], -len(images) % self._batch, axis=0)])
        parts = [
            run_graph(self._session, filled[start : start + self._batch], self._source)
            for start in range(0, len(filled), self._batch)
        ]
        return [np.concatenate(layer)[: len(images)] for layer in zip(*parts, strict=True)]


def open_onnx(path: Path, image_size: Grid | None, slices: int | None = None) -> Encoder:
    """Open a graph; image_size (D, H, W) where its own sizes are dynamic, slices where it takes single B-scans.

    Raises CheckpointError for a file that cannot be used, UsageError without the extra onnx or without a size.
    """
    onnx, runtime = (require(name, "--encoder onnx") for name in ("onnx", "onnxruntime"))
    source = path.name
    digest, metadata = _check_file(onnx, path)
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except _faults() as error:
        raise CheckpointError(f"{source}: onnxruntime cannot open it: {_line(error)}") from error
    inputs = session.get_inputs()
    shape = inputs[0].shape if inputs else []
    if len(inputs) != 1 or len(shape) not in (4, 5) or inputs[0].type != "tensor(float)" or shape[1] not in (1, 3):
        raise CheckpointError(
            f"{source}: expected one float32 input [B,C,D,H,W] or [B,C,H,W] with C 1 or 3, "
            f"got {[(one.type, one.shape) for one in inputs]}"
        )
    size = _size(shape, image_size, slices, source)
    batch, outputs = _probe(session, (shape[1], *(size if len(shape) == 5 else size[1:])), shape[0], source)
    grid, prefix = _grid(outputs, metadata, size, slices=len(shape) == 4, source=source)
    kind = _family(digest, channels=shape[1], slices=len(shape) == 4)
    patch: Grid = (size[0] // grid[0], size[1] // grid[1], size[2] // grid[2])
    width = as_tokens(outputs[-1]).shape[2]
    architecture = Architecture(kind.name, size, patch, width, len(outputs), 1, 1, prefix)
    return Encoder(OnnxModule(architecture, session, source, batch).eval(), architecture, digest, source, {})


def run_graph(session: Any, images: np.ndarray, source: str) -> list[np.ndarray]:
    """Give all outputs. Raises CheckpointError where the graph does not take this size."""
    try:
        outputs: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: images})
    except _faults() as error:
        raise CheckpointError(f"{source}: the graph does not take {list(images.shape)}: {_line(error)}") from error
    return outputs


def as_tokens(output: np.ndarray) -> np.ndarray:
    """Bring maps [B, C, ...] to tokens [B, N, C]; tokens stay."""
    return output if output.ndim == 3 else output.reshape(*output.shape[:2], -1).transpose(0, 2, 1).copy()


def _check_file(onnx: Any, path: Path) -> tuple[str, Mapping[str, str]]:
    """Digest the file with its external data, and refuse custom operators. Raises CheckpointError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    try:
        model = onnx.load_from_string(data)
    except (ValueError, import_module("google.protobuf.message").DecodeError) as error:
        raise CheckpointError(f"{path.name} is no ONNX file, or is cut off; copy it again") from error
    if custom := sorted({f"{node.domain}:{node.op_type}" for node in model.graph.node if node.domain not in DOMAINS}):
        raise CheckpointError(f"{path.name}: expected operators of ONNX alone, got {custom[0]}; export without it")
    helper, digest = import_module("onnx.external_data_helper"), sha256(data)
    places = {helper.ExternalDataInfo(one).location for one in helper._get_all_tensors(model) if one.data_location == 1}
    for place in sorted(places):
        beside = path.parent / place
        if Path(place).name != place or not beside.is_file():
            raise CheckpointError(f"{path.name}: its external data {place} are not next to it; copy them too")
        digest.update(beside.read_bytes())
    return digest.hexdigest(), {entry.key: entry.value for entry in model.metadata_props}


def _probe(session: Any, shape: tuple[int, ...], stated: Any, source: str) -> tuple[int | None, list[np.ndarray]]:
    """Give the only batch that the graph takes (None: any), and its outputs. Raises CheckpointError.

    Not every graph that leaves its batch open takes two: such a one is given pictures one by one.
    """
    fixed = stated if isinstance(stated, int) else None
    outputs = run_graph(session, np.zeros((fixed or 1, *shape), np.float32), source)
    if wrong := [list(output.shape) for output in outputs if output.shape[:1] != (fixed or 1,)]:
        raise CheckpointError(f"{source}: expected outputs for each of {fixed or 1} inputs, got {wrong[0]}")
    if fixed is not None:
        return fixed, outputs
    try:
        two = run_graph(session, np.zeros((2, *shape), np.float32), source)
    except CheckpointError:
        return 1, outputs
    fits = all(b.shape == (2, *a.shape[1:]) for a, b in zip(outputs, two, strict=True))
    return (None if fits else 1), outputs


def _size(shape: Sequence[Any], wish: Grid | None, slices: int | None, source: str) -> Grid:
    """Join the graph's own sizes, where they are numbers, with the caller's."""
    own = [one if isinstance(one, int) else None for one in shape[2:]]
    asked = list(wish[-len(own) :]) if wish else [None] * len(own)
    if any(mine is not None and theirs not in (None, mine) for mine, theirs in zip(own, asked, strict=True)):
        raise CheckpointError(f"{source}: the graph takes {own}, but --image-size asks for {asked}")
    sides = [mine or theirs for mine, theirs in zip(own, asked, strict=True)]
    if len(sides) == 2:
        sides = [wish[0] if wish else slices or 16, *sides]
    if None in sides:
        raise UsageError(f"{source}: the graph leaves its size open ({shape}): say --image-size D,H,W")
    return sides[0] or 1, sides[1] or 1, sides[2] or 1


def _grid(
    outputs: Sequence[np.ndarray], metadata: Mapping[str, str], size: Grid, *, slices: bool, source: str
) -> tuple[Grid, int]:
    """Find the token grid and the prefix tokens; nothing is guessed. Raises CheckpointError."""
    shapes = {output.shape[:1] + as_tokens(output).shape[1:] for output in outputs if output.ndim in (3, 4, 5)}
    if len(shapes) != 1 or any(output.ndim not in (3, 4, 5) or output.dtype != np.float32 for output in outputs):
        raise CheckpointError(
            f"{source}: expected float32 outputs of one shape, [B,N,C] or maps [B,C,...], "
            f"got {[list(output.shape) for output in outputs]}"
        )
    count, (prefix,) = next(iter(shapes))[1], _counts(metadata, PREFIX, "0", 1, source)
    last, frames = outputs[-1], size[0] if slices else 1
    if GRID in metadata:
        gd, gh, gw = _counts(metadata, GRID, "", 3, source)
    elif last.ndim > 3:
        gd, gh, gw = (1, *last.shape[2:]) if last.ndim == 4 else last.shape[2:]
    else:
        sides = [k for k in range(1, size[1] + 1) if size[1] % k == 0 and size[2] % k == 0]
        fitting = [k for k in sides if slices and (size[1] // k) * (size[2] // k) == count - prefix]
        gd, gh, gw = (1, size[1] // fitting[0], size[2] // fitting[0]) if fitting else (0, 0, 0)
    grid: Grid = (gd * frames, gh, gw)
    if gd * gh * gw != count - prefix or 0 in grid or any(a % b for a, b in zip(size, grid, strict=True)):
        raise CheckpointError(
            f"{source}: {count} tokens of {list(size)} voxels do not tell their grid: write the metadata {GRID} "
            f'"gd,gh,gw" (of slices gd is 1) and {PREFIX} into the file'
        )
    return grid, prefix


def _counts(metadata: Mapping[str, str], name: str, usual: str, many: int, source: str) -> list[int]:
    """Read whole numbers of the metadata. Raises CheckpointError."""
    parts = [part.strip() for part in metadata.get(name, usual).split(",")]
    if len(parts) != many or not all(part.isascii() and part.isdecimal() and len(part) <= 6 for part in parts):
        wanted = "gd,gh,gw" if many == 3 else "a whole number from 0"
        raise CheckpointError(f"{source}: metadata {name}: expected {wanted}, got {metadata.get(name)!r:.80}")
    return [int(part) for part in parts]


def _family(digest: str, *, channels: int, slices: bool) -> Family:
    name = f"onnx@{digest[:DIGITS]}"
    card = Card(title="ONNX", licence=None, commercial=False, gated=False, citation=None, weights="an ONNX file")
    kind = Family(
        name=name, card=card, preset=None, positions="fixed", frames=None, channels=channels, slices=slices
    )  # fmt: skip
    return OWN_FAMILIES.setdefault(name, kind)


def _faults() -> tuple[type[BaseException], ...]:
    """List what onnxruntime raises; each of its statuses is a class of its own."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception)]
    return (*own, RuntimeError, ValueError)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
