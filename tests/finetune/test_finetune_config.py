"""The recipe: defaults, shipped recipes, a YAML file over them, words over that, and every typo named."""

from pathlib import Path

import pytest

from embeddings_store.errors import UsageError
from finetune.recipe.config import FinetuneConfig, LinearConfig, MlpConfig
from finetune.recipe.load import RECIPES, load_config, save_config


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "batch_size: 2\nstages: {last: {blocks: 1, learning_rate: 1e-3}}\n"))
    default = FinetuneConfig()
    assert (config.batch_size, config.stages.last.blocks, config.stages.last.learning_rate) == (2, 1, 1e-3)
    assert (config.stages.head, config.stages.all) == (default.stages.head, default.stages.all)
    assert config.stages.last.epochs == default.stages.last.epochs


def test_the_command_line_goes_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "batch_size: 2\nstages: {head: {epochs: 9}}\n")
    config = load_config(path, changes=("stages.last.drop_path=0.3", "batch_size=5"), epochs=4, batch_size=3)
    assert (config.batch_size, config.stages.head.epochs, config.stages.all.epochs) == (3, 4, 4)
    assert config.stages.last.drop_path == 0.3
    assert config.stages.last.blocks == FinetuneConfig().stages.last.blocks


def every_key(settings: dict[str, object], before: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in settings.items():
        name = f"{before}{key}"
        found += every_key(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found


@pytest.mark.parametrize(("key", "value"), every_key(FinetuneConfig().model_dump()))
def test_every_value_can_be_set_by_a_word(key: str, value: object) -> None:
    word = (
        {True: "true", False: "false", None: "null"}[value]
        if value is None or value is True or value is False
        else value
    )
    assert load_config(None, changes=(f"{key}={word}",)) == FinetuneConfig()


def test_another_kind_of_head_takes_nothing_over() -> None:
    config = load_config(None, changes=("head.kind=mlp", "head.dropout=0.1"))
    assert config.head == MlpConfig(kind="mlp", dropout=0.1)
    assert load_config(None, changes=("head.kind=mlp", "head.kind=linear")).head == LinearConfig()


def test_a_saved_recipe_reads_back_as_it_was(tmp_path: Path) -> None:
    config = load_config(None, changes=("head.kind=attentive", "augment.mixup=0.2"), epochs=7)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_are_found_by_name(name: str) -> None:
    assert load_config(name) != FinetuneConfig()


def test_the_recipe_for_a_tpu_fits_its_chips() -> None:
    config = load_config("tpu-v4-32")
    assert (config.precision, config.recompute, config.batch_size % 16) == ("bf16", True, 0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("batchsize: 2", "unknown key 'batchsize'; known there: stages, head, augment, batch_size"),
        ("stages: {last: {block: 2}}", "unknown key 'stages.last.block'; known there: epochs, learning_rate"),
        ("stages: {head: {blocks: 2}}", "unknown key 'stages.head.blocks'"),
        ("stages: {head: {epochs: 0}}", "stages.head.epochs"),
        ("stages: {head: {epochs: '3'}}", "stages.head.epochs"),
        ("stages: {head: {learning_rate: fast}}", "stages.head.learning_rate"),
        ("stages: {head: {learning_rate: true}}", "stages.head.learning_rate"),
        ("stages: {head: {learning_rate: .nan}}", "stages.head.learning_rate"),
        ("stages: {head: {learning_rate: 1.0e+38}}", "stages.head.learning_rate"),
        ("stages: {head: {weight_decay: 1.0e+38}}", "stages.head.weight_decay"),
        ("head: {dropout: 0.5}", "unknown key 'head.dropout' of a head of kind 'linear'"),
        ("head: {kind: forest}", "head"),
        ("augment: {mirror: 2}", "augment.mirror"),
        ("micro_batch_size: 9", "micro_batch_size 9 is larger than batch_size 8"),
        ("stages: 3", "stages"),
        ("[1, 2]", "expected keys and values, got list"),
        ("head: {", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=r"recipe\.yaml") as refused:
        load_config(written(tmp_path, text))
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("stages.last.epochs", "expected KEY=VALUE"),
        ("stages..epochs=3", "expected KEY=VALUE"),
        ("stages.last.epoch=3", "unknown key 'stages.last.epoch'"),
        ("stages.all.epochs=3", "stage 'all' is not run; --stages is head,last"),
        ("head={", "expected YAML, which cannot be read"),
        ("batch_size=many", "batch_size"),
    ],
)
def test_a_wrong_word_is_named(change: str, named: str) -> None:
    with pytest.raises(UsageError, match="--set") as refused:
        load_config(None, changes=(change,), stages=("head", "last"))
    assert named in str(refused.value)


def test_a_missing_file_is_refused_and_the_names_are_told() -> None:
    with pytest.raises(UsageError, match=r"one of smoke, tpu-v4-32; it cannot be read"):
        load_config("nothing.yaml")
