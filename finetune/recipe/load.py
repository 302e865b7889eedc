"""From a recipe's name or YAML file, and words of the command line, to one checked FinetuneConfig."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from embeddings_store.errors import UsageError
from embeddings_store.yaml_file import parse_mapping, parse_yaml, read_mapping
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.stage_names import STAGES

RECIPES = ("smoke", "tpu-v4-32")
"""Shipped with the package: finetune/recipe/<name>.yaml."""

KIND = "kind"


def load_config(
    source: str | Path | FinetuneConfig | None = None,
    *,
    changes: Sequence[str] = (),
    stages: Sequence[str] = STAGES,
    epochs: int | None = None,
    batch_size: int | None = None,
    parallel: str | None = None,
) -> FinetuneConfig:
    """Put a recipe, then the command line, over the defaults.

    source: a name of RECIPES, a YAML file, or a recipe. changes: "stages.last.epochs=3" and the like. stages: those
    that are run; a change of another one would do nothing and is refused. epochs: of every stage.
    Raises: UsageError that names the key.
    """
    settings: dict[str, Any] = (source if isinstance(source, FinetuneConfig) else FinetuneConfig()).model_dump()
    if isinstance(source, str | Path):
        settings = _checked(_merged(settings, _read_recipe(source)), f"--config {_name(source)}").model_dump()
    for change in changes:
        key, value = _read_change(change)
        _require_use(key, stages)
        settings = _checked(_merged(settings, _nested(key, value)), f"--set {change}").model_dump()
    told = {"batch_size": batch_size, "parallel": parallel}
    typed: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if epochs is not None:
        typed["stages"] = {stage: {"epochs": epochs} for stage in STAGES}
    return _checked(_merged(settings, typed), "the recipe")


def save_config(config: FinetuneConfig, path: Path) -> None:
    """Write the recipe as it was used, in the form that --config reads."""
    import yaml

    path.write_text(yaml.safe_dump(config.model_dump(), sort_keys=False), encoding="utf-8")


def _name(source: str | Path) -> str:
    return source if source in RECIPES else Path(source).name


def _read_recipe(source: str | Path) -> dict[str, Any]:
    if source in RECIPES:
        text = (files(__package__) / f"{source}.yaml").read_text(encoding="utf-8")
        return parse_mapping(text, f"--config {source}")
    if not Path(source).is_file():
        known = ", ".join(RECIPES)
        raise UsageError(f"--config {source}: expected a YAML file or one of {known}; it cannot be read: none is there")
    return read_mapping(Path(source), f"--config {Path(source).name}")


def _read_change(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UsageError(f"--set: expected KEY=VALUE such as stages.last.epochs=3, got {text!r}")
    return [part.strip() for part in key.split(".")], parse_yaml(value, f"--set {key}")


def _require_use(key: Sequence[str], stages: Sequence[str]) -> None:
    if len(key) > 1 and key[0] == "stages" and key[1] in STAGES and key[1] not in stages:
        raise UsageError(f"--set {'.'.join(key)}: stage {key[1]!r} is not run; --stages is {','.join(stages)}")


def _nested(key: Sequence[str], value: Any) -> dict[str, Any]:
    for part in reversed(key):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes over settings, key by key; another kind takes nothing over from the one before."""
    merged = dict(settings)
    for key, value in changes.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict) and value.get(KIND, known.get(KIND)) == known.get(KIND):
            merged[key] = _merged(known, value)
        else:
            merged[key] = value
    return merged


def _checked(settings: Mapping[str, Any], name: str) -> FinetuneConfig:
    try:
        return FinetuneConfig.model_validate(dict(settings))
    except ValidationError as error:
        raise UsageError(f"{name}: {_describe(error, settings)}") from None


def _describe(error: ValidationError, settings: Mapping[str, Any]) -> str:
    """Put the first complaint into one line."""
    first = error.errors()[0]
    head = settings.get("head")
    kind = head.get(KIND) if isinstance(head, dict) else None
    place = [str(part) for part in first["loc"] if part != kind]
    if first["type"] != "extra_forbidden":
        where = f"{'.'.join(place)}: " if place else ""
        return f"{where}{first['msg'].removeprefix('Value error, ')}; got {first['input']!r}"
    known: Any = FinetuneConfig().model_dump()
    for part in place[:-1]:
        known = known[part]
    owner = f" of a head of kind {kind!r}" if place[0] == "head" else f"; known there: {', '.join(known)}"
    return f"unknown key {'.'.join(place)!r}{owner}"
