"""Read a YAML file of keys and values in which no key stands twice."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from embeddings_store.errors import UsageError


class _NoDoubles(yaml.SafeLoader):
    """YAML keeps the last of two equal keys without a word; here it is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if double := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"the key {double!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path, where: str) -> dict[str, Any]:
    """Read a file; where: what the messages begin with. Raises: UsageError where it is no mapping of names."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_NoDoubles)  # noqa: S506 - derived from SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{where}: expected a YAML file, which cannot be read: {said}") from error
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise UsageError(f"{where}: expected keys and values, got {type(raw).__name__}")
    return raw
