"""The door to an encoder, as every command uses it: what it says of a file that names foreign code."""

from pathlib import Path

import pytest
from command_line import Command

from extract.encoder.open import open_encoder


def test_foreign_code_is_said_in_one_line_and_none_of_it_is_run(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_encoder(checkpoint=reference / "vjepa3d_nested/malicious_in_config.pt")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: malicious_in_config.pt: the file names foreign code (io.open)")
    assert "nothing of it was run" in line
    assert opened.facts["foreign_globals"] == ["io.open"]


def test_a_trainers_own_file_needs_no_warning(reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_encoder(checkpoint=reference / "vjepa3d_nested/trainer_full.pt")
    open_encoder(encoder="random:tiny")
    assert capsys.readouterr().err == ""


def test_a_run_warns_before_it_begins(tmp_path: Path, reference: Path, command: Command) -> None:
    nested = reference / "vjepa3d_nested"
    line = ("encode", nested / "input.npy", "--checkpoint", nested / "malicious_in_config.pt")
    done = command("extract-embeddings", *line, "--out", tmp_path / "tokens.npy")
    assert done.code == 0, done.stderr
    assert done.stderr.count("warning: ") == 1
    assert (tmp_path / "tokens.npy").exists()
