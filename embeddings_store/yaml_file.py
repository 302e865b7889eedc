"""YAML that people write: names and values in which no name stands twice, read to the end or refused in one line."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

from embeddings_store.errors import UsageError

MOST_CHARACTERS = 1_000_000


def read_mapping(path: Path, where: str) -> dict[str, Any]:
    """Return what a file says; where: what the messages begin with. Raises: UsageError as parse_mapping does."""
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{where}: expected a YAML file, which cannot be read: expected a plain file, got a pipe, socket or device"
        )
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: expected a YAML file, which cannot be read: {error}") from error
    return parse_mapping(text, where)


def parse_mapping(text: str, where: str) -> dict[str, Any]:
    """Return the names and values of a text. Raises: UsageError where it is no YAML, or no mapping of names."""
    raw = parse_yaml(text, where)
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise UsageError(f"{where}: expected keys and values, got {type(raw).__name__}")
    return raw


def parse_yaml(text: str, where: str) -> Any:
    """Return any value of YAML 1.1 without tags. Raises: UsageError, also for what is too long, deep or large."""
    import yaml

    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"{where}: expected YAML of at most {MOST_CHARACTERS:,} characters, got more")
    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
    except RecursionError:
        why = "it is nested too deeply"
    except (ValueError, OverflowError, TypeError, AttributeError) as error:  # a month 99, 5,000 digits, a tag
        why = str(error)
    raise UsageError(f"{where}: expected YAML, which cannot be read: {why[:300]}")


def _loader() -> Any:
    import yaml

    class NoDoubles(yaml.SafeLoader):
        """YAML keeps the last of two equal keys without a word; here it is an error. Anchors cannot multiply."""

        def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
            if not isinstance(node, yaml.MappingNode):  # of a tag that says it were one
                raise yaml.constructor.ConstructorError(None, None, "expected keys and values", node.start_mark)
            seen: set[Hashable] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, Hashable):
                    if key in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key {key!r} stands twice", node.start_mark
                        )
                    seen.add(key)
            return super().construct_mapping(node, deep)

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.composer.ComposerError(None, None, "aliases are not read; write the value out", None)
            return super().compose_node(parent, index)

    return NoDoubles
