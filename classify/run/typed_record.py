"""Records that are JSON on disk and frozen dataclasses in memory: one way to write them, and one to read or refuse."""

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from classify.errors import RunFolderError
from classify.model_files import read_object
from classify.run.estimate import Estimate

T = TypeVar("T")
_adapter_of: Callable[[Any], Any] = cache(TypeAdapter)

LEFT_OUT = {"left_out": True}
"""Metadata of a field that is not written where it is None; every other None is null."""


def as_json(record: Any) -> dict[str, Any]:
    """Return the fields of a record, and of the records in it, in plain JSON types."""
    found = {one: getattr(record, one.name) for one in fields(record)}
    return {
        one.name: plain(value) for one, value in found.items() if value is not None or "left_out" not in one.metadata
    }


def plain(tree: Any) -> Any:
    """Return records, estimates and what holds them in plain JSON types."""
    if isinstance(tree, Estimate):
        return tree.to_dict()
    if is_dataclass(tree):
        return as_json(tree)
    if isinstance(tree, Mapping):
        return {name: plain(one) for name, one in tree.items()}
    return [plain(one) for one in tree] if isinstance(tree, list | tuple) else tree


def write_record(path: Path, record: Any) -> None:
    """Write a record as JSON. Raises: OSError; ValueError for a number that is not finite."""
    path.write_text(json.dumps(plain(record), indent=2, allow_nan=False))


def parse_record(kind: type[T], raw: Mapping[str, Any], where: str, *, unnamed: Container[object] = ()) -> T:
    """Read the fields of a record. where: names the file. unnamed: fields that the file has not, but their fields.

    Raises: RunFolderError, in one line that names the first wrong field.
    """
    try:
        found: T = _adapter_of(kind).validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = [str(step)[:40] for step in first["loc"] if step not in unnamed]
        wrong = f"the field {place[0]!r} is missing" if first["type"] == "missing" and len(place) == 1 else (
            f"{'.'.join(place[:6])}: {first['msg'][:200]}"
        )  # fmt: skip
        raise RunFolderError(f"{where}: {wrong}; was it written by another version of octprobe?") from error
    return found


def read_typed(kind: type[T], path: Path) -> T:
    """Return the record that a JSON file holds. Raises: RunFolderError where it is missing or damaged."""
    return parse_record(kind, read_object(path), f"{path.parent.name}/{path.name}")
