"""The recipe: defaults, a YAML file over them, and every typo named."""

from pathlib import Path

import pytest

from embeddings_store.errors import UsageError
from finetune.config import FinetuneConfig, load_config, save_config


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "batch_size: 2\nlast: {blocks: 1, learning_rate: 1e-3}\n"))
    default = FinetuneConfig()
    assert (config.batch_size, config.last.blocks, config.last.learning_rate) == (2, 1, 1e-3)
    assert (config.head, config.all, config.last.epochs) == (default.head, default.all, default.last.epochs)


def test_the_command_line_goes_over_the_file(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "batch_size: 2\nhead: {epochs: 9}\n"), epochs=4, batch_size=3)
    assert (config.batch_size, config.head.epochs, config.last.epochs, config.all.epochs) == (3, 4, 4, 4)
    assert config.last.blocks == FinetuneConfig().last.blocks


def test_a_saved_recipe_reads_back_as_it_was(tmp_path: Path) -> None:
    config = load_config(None, epochs=7)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("batchsize: 2", "unknown key 'batchsize'; known there: head, last, all, batch_size"),
        ("last: {block: 2}", "unknown key 'last.block'; known there: epochs, learning_rate"),
        ("head: {blocks: 2}", "unknown key 'head.blocks'"),
        ("head: {epochs: 0}", "head.epochs"),
        ("head: {epochs: '3'}", "head.epochs"),
        ("head: {learning_rate: fast}", "head.learning_rate"),
        ("head: {learning_rate: true}", "head.learning_rate"),
        ("head: {learning_rate: .nan}", "head.learning_rate"),
        ("head: 3", "head"),
        ("[1, 2]", "expected keys and values, got list"),
        ("head: {", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=r"recipe\.yaml") as refused:
        load_config(written(tmp_path, text))
    assert named in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path / "nothing.yaml")
