"""The recipe: how long and how fast each stage learns. Defaults here, a YAML file may change them, typos are errors."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from embeddings_store.errors import UsageError

STAGES = ("head", "last", "all")


def _read_number(raw: object) -> object:
    """Read 1e-4, which YAML 1.1 takes for a word."""
    try:
        return float(raw) if isinstance(raw, str) else raw
    except ValueError:
        return raw


Number = Annotated[float, BeforeValidator(_read_number), Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """Unknown keys and values of another type are errors; nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StageConfig(Strict):
    """One stage: learning_rate is the highest, reached after warmup_fraction of the steps, then a cosine to 0."""

    epochs: int = Field(ge=1)
    learning_rate: Number = Field(gt=0)
    weight_decay: Number = Field(ge=0)
    warmup_fraction: Number = Field(ge=0, lt=1)


class LastConfig(StageConfig):
    """The stage of the last blocks of the encoder."""

    blocks: int = Field(ge=1)


class FinetuneConfig(Strict):
    """The whole recipe. batch_size in volumes; gradients are clipped to the norm gradient_clip."""

    head: StageConfig = StageConfig(epochs=30, learning_rate=1e-2, weight_decay=1e-2, warmup_fraction=0.1)
    last: LastConfig = LastConfig(epochs=5, learning_rate=1e-4, weight_decay=5e-2, warmup_fraction=0.1, blocks=2)
    all: StageConfig = StageConfig(epochs=3, learning_rate=5e-6, weight_decay=5e-2, warmup_fraction=0.1)
    batch_size: int = Field(default=8, ge=1)
    gradient_clip: Number = Field(default=1.0, gt=0)

    def stage(self, name: str) -> StageConfig:
        """Give the settings of a stage."""
        stages: dict[str, StageConfig] = {"head": self.head, "last": self.last, "all": self.all}
        return stages[name]


def load_config(path: Path | None, *, epochs: int | None = None, batch_size: int | None = None) -> FinetuneConfig:
    """Put a YAML file, then the command line, over the defaults; epochs counts for every stage.

    Raises: UsageError that names the key.
    """
    settings: dict[str, Any] = FinetuneConfig().model_dump()
    name = f"--config {path.name}" if path else "the recipe"
    for key, value in (_read_yaml(path) if path else {}).items():
        known = settings.get(key)
        settings[key] = known | value if isinstance(known, dict) and isinstance(value, dict) else value
    try:
        config = FinetuneConfig.model_validate(settings)
        changes: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
        if epochs is not None:
            changes |= {stage: config.stage(stage).model_dump() | {"epochs": epochs} for stage in STAGES}
        return FinetuneConfig.model_validate(config.model_dump() | changes)
    except ValidationError as error:
        raise UsageError(f"{name}: {_describe(error)}") from None


def save_config(config: FinetuneConfig, path: Path) -> None:
    """Write the recipe as it was used, in the form that --config reads."""
    import yaml

    path.write_text(yaml.safe_dump(config.model_dump(), sort_keys=False), encoding="utf-8")


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path}: expected a YAML file, which cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"--config {path.name}: expected keys and values, got {type(raw).__name__}")
    return {str(key): value for key, value in raw.items()}


def _describe(error: ValidationError) -> str:
    """Put the first complaint into one line."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        return f"{'.'.join(place)}: {first['msg']}; got {first['input']!r}"
    known: Any = FinetuneConfig().model_dump()
    for part in place[:-1]:
        known = known[part]
    return f"unknown key {'.'.join(place)!r}; known there: {', '.join(known)}"
