"""A zip archive written by torch.save, read record by record with its checksums and without running it."""

import pickle
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from extract.encoder.claims import Claims, claims_of_config
from extract.encoder.everyday import HARMLESS, is_harmless, plain_number
from extract.encoder.foreign import shorten
from extract.encoder.unpickle import Inert, TensorRef, read_pickle
from extract.errors import CheckpointError

PIECE_BYTES = 1 << 20

MOST_PICKLE_BYTES = 1 << 24
"""Of data.pkl, which holds names and numbers but no tensor: a trainer's is below 1 MB, and reading takes 1 s per MB."""

STATE_KEYS = ("model_state_dict", "state_dict", "model", "module")
"""Where the trainer, and others (module: DeepSpeed), keep the weights; else the file itself is the state dict."""


class TorchArchive:
    """A .pt file; see WeightFile. Tensors that nobody asks for (optimizer moments) are never read."""

    def __init__(self, source: str, archive: ZipFile) -> None:
        self.source = source
        self._zip = archive
        self._folder = self._find_folder()
        self._require_little_endian()
        root, foreign = self._unpickle()
        state = _state_of(root)
        self.contents: Mapping[str, int] = {str(key): _count_tensors(value) for key, value in root.items()}
        self._tensors = self._tensors_of(state)
        self.shapes: Mapping[str, tuple[int, ...]] = {name: ref.shape for name, ref in self._tensors.items()}
        self.claims: Claims = claims_of_config(root.get("config"))
        self.facts: Mapping[str, Any] = self._training_facts(root, foreign)

    def read(self, name: str) -> Shaped[Tensor, "..."]:
        """Read one tensor; its record's checksum and size are verified."""
        return self._materialise(self._tensors[name], name)

    def _find_folder(self) -> str:
        pickles = [name for name in self._zip.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise CheckpointError(
                f"{self.source} is a zip archive but no checkpoint: expected one data.pkl of torch.save, "
                f"got {len(pickles)}; point to the .pt file itself"
            )
        return pickles[0].removesuffix("data.pkl")

    def _require_little_endian(self) -> None:
        record = f"{self._folder}byteorder"
        if record in self._zip.namelist() and self._record(record) != b"little":
            raise CheckpointError(
                f"{self.source}: expected little-endian tensors, got big-endian; save it as .safetensors"
            )

    def _unpickle(self) -> tuple[dict[Any, Any], tuple[str, ...]]:
        record = f"{self._folder}data.pkl"
        if (size := self._zip.getinfo(record).file_size) > MOST_PICKLE_BYTES:
            raise CheckpointError(
                f"{self.source}: data.pkl: expected at most {MOST_PICKLE_BYTES:,} bytes besides the tensors, got "
                f"{size:,}; save the model's state_dict() alone"
            )
        try:
            root, foreign = read_pickle(self._record(record))
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{self.source}: data.pkl cannot be read safely ({shorten(error)}); copy the file again"
            ) from error
        if not isinstance(root, dict):
            raise CheckpointError(
                f"{self.source}: expected a dict of tensors, got {_what(root)}; save the model's state_dict() instead"
            )
        return root, foreign

    def _tensors_of(self, state: Mapping[Any, Any]) -> dict[str, TensorRef]:
        named = _flat(state)
        tensors = {name: value for name, value in named.items() if isinstance(value, TensorRef)}
        for name, value in named.items():
            if isinstance(value, Inert) and _may_be_a_tensor(value):
                raise CheckpointError(
                    f"{self.source}: tensor {shorten(name)} is saved as {_what(value)}, which is not read; "
                    "save the weights as .safetensors, or from the CPU"
                )
        return tensors

    def _training_facts(self, root: Mapping[Any, Any], foreign: tuple[str, ...]) -> dict[str, Any]:
        """Give what is known of: epoch, step, loss, scheduler_last_epoch, optimizer_steps, foreign_globals."""
        scheduler, optimizer = root.get("scheduler_state_dict"), root.get("optimizer_state_dict")
        moments = optimizer.get("state") if isinstance(optimizer, dict) else None
        first = next(iter(moments.values()), None) if isinstance(moments, dict) else None
        candidates = {
            "epoch": root.get("epoch"),
            "step": root.get("step", root.get("global_step")),
            "loss": root.get("loss"),
            "scheduler_last_epoch": scheduler.get("last_epoch") if isinstance(scheduler, dict) else None,
            "optimizer_steps": first.get("step") if isinstance(first, dict) else None,
        }
        numbers = {name: self._number(value, name) for name, value in candidates.items()}
        strange = [name for name in foreign if not HARMLESS.fullmatch(name)]
        known: dict[str, Any] = {name: number for name, number in numbers.items() if number is not None}
        return known | ({"foreign_globals": strange} if strange else {})

    def _number(self, value: object, name: str) -> int | float | None:
        if isinstance(value, TensorRef) and value.shape in ((), (1,)):
            return self._materialise(value, name).item()
        return plain_number(value)

    def _materialise(self, ref: TensorRef, name: str) -> Tensor:
        data = self._storage(ref, name)
        last = ref.offset + sum((size - 1) * stride for size, stride in zip(ref.shape, ref.strides, strict=True))
        count = len(data) // ref.stored_dtype.itemsize
        if 0 in ref.shape or last >= count or prod(ref.shape) > count:
            raise CheckpointError(
                f"{self.source}: tensor {shorten(name)} {shorten(ref.shape)} is empty, reaches beyond its record, or "
                "repeats its numbers; save a contiguous copy"
            )
        return data.view(ref.stored_dtype).as_strided(ref.shape, ref.strides, ref.offset).to(ref.dtype).contiguous()

    def _storage(self, ref: TensorRef, name: str) -> UInt8[Tensor, " bytes"]:
        record = f"{self._folder}data/{ref.storage.key}"
        expected = ref.storage.element_count * ref.storage.dtype.itemsize
        if record not in self._zip.NameToInfo or self._zip.getinfo(record).file_size != expected:
            raise CheckpointError(
                f"{self.source}: tensor {shorten(name)}: expected a record of {expected} bytes, got none or another "
                "size; copy the file again"
            )
        data = torch.empty(expected, dtype=torch.uint8)
        self._copy_record(record, data.numpy().data)
        return data

    def _copy_record(self, record: str, target: memoryview) -> None:
        """Copy piece by piece, so that a tensor never lies in memory twice; the checksum is verified at the end."""
        self._require_stored(record)
        with _damage_named(self.source), self._zip.open(record) as file:
            start = 0
            while piece := file.read(PIECE_BYTES):
                target[start : start + len(piece)] = piece
                start += len(piece)

    def _record(self, record: str) -> bytes:
        self._require_stored(record)
        with _damage_named(self.source):
            return self._zip.read(record)

    def _require_stored(self, record: str) -> None:
        if self._zip.getinfo(record).compress_type != ZIP_STORED:
            raise CheckpointError(f"{self.source}: a compressed record, which torch.save never writes; save it again")


@contextmanager
def open_torch_archive(path: Path) -> Iterator[TorchArchive]:
    """Open for reading; CheckpointError when the archive is cut off, encrypted, or a checksum is wrong."""
    with ExitStack() as stack:
        with _damage_named(path.name):
            archive = stack.enter_context(ZipFile(path))
        yield TorchArchive(path.name, archive)


@contextmanager
def _damage_named(source: str) -> Iterator[None]:
    """Turn what zipfile raises on damaged bytes into one message."""
    try:
        yield
    except (BadZipFile, EOFError, RuntimeError, ValueError, LookupError, OSError, struct.error) as error:
        raise CheckpointError(f"{source} is a damaged or cut-off archive ({error}); copy the file again") from error


def _state_of(root: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Go down the keys that trainers use, each level once: a pickle may hold itself."""
    state = root
    for _ in STATE_KEYS:
        state = next((state[key] for key in STATE_KEYS if isinstance(state.get(key), Mapping)), state)
    return state


def _flat(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Name what lies in a state dict, or where a file has one under each of several keys, what lies in all of them."""
    if any(isinstance(value, TensorRef | Inert) for value in state.values()):
        return {str(name): value for name, value in state.items()}
    return {
        f"{key}.{name}": value
        for key, below in state.items()
        if isinstance(below, Mapping)
        for name, value in below.items()
        if isinstance(value, TensorRef | Inert)
    }


def _may_be_a_tensor(value: Inert) -> bool:
    name = value.qualified_name
    return name.startswith("torch") and (not is_harmless(value) or "._rebuild_" in name)


def _count_tensors(value: object) -> int:
    """Count what lies below a key, however deep; a pickle may hold itself, so each thing is looked at once."""
    count, waiting, met = 0, [value], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, TensorRef):
            count += 1
        elif isinstance(one, Mapping | list | tuple) and id(one) not in met:
            met.add(id(one))
            waiting += one.values() if isinstance(one, Mapping) else one
    return count


def _what(value: object) -> str:
    return shorten(value.qualified_name) if isinstance(value, Inert) else type(value).__name__
