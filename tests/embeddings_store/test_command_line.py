"""A verb's dataclass is its command line and its Python call."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from embeddings_store.command_line import Options, Text, parse_words, verb
from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import new_app
from extract.options import ExtractOptions
from reports.options import ServeOptions, StudyOptions, TrackOptions


def parse_size(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--size: expected numbers, got {text!r}") from error


@dataclass(frozen=True, kw_only=True)
class Shared(Options):
    device: Annotated[Literal["auto", "cpu"], typer.Option(help="Where.")] = "auto"


@dataclass(frozen=True, kw_only=True)
class Sample(Shared):
    bucket: Annotated[str, typer.Option(help="What is read.")]
    size: Annotated[tuple[int, ...], Text(parse_size, "1,2"), typer.Option(help="How large.")] = (1, 2)
    files: Annotated[Path | tuple[Path, ...], typer.Option("--file", help="May be repeated.")] = ()
    count: Annotated[int, typer.Option(min=1, max=9, help="How many.")] = 3
    loud: Annotated[bool, typer.Option(help="Say more.")] = False
    command: tuple[str, ...] = ()


def run(*words: str, main: bool = True) -> tuple[Any, list[Any]]:
    app, seen = new_app("A sample."), []

    @verb(app, main=main)
    def sample(options: Sample, *, json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """Do it."""
        seen.append((options, json))

    if main:

        @app.command()
        def other() -> None:
            """Do something else."""

    return CliRunner().invoke(app, list(words)), seen


def test_the_fields_are_the_options() -> None:
    result, seen = run("--bucket", "b", "--size", "4,5", "--file", "x", "--file", "y", "--loud", "--json")
    assert result.exit_code == 0, result.output
    options, json = seen[0]
    assert (options.bucket, options.size, options.files) == ("b", (4, 5), (Path("x"), Path("y")))
    assert (options.device, options.count, options.loud, json) == ("auto", 3, True, True)
    assert isinstance(options.command, tuple)


def test_python_gets_the_same_object() -> None:
    assert parse_words(Sample, bucket="b", size="4,5", files=[Path("x")]) == Sample(
        bucket="b", size=(4, 5), files=Path("x")
    )


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (("--device", "tpu"), {"device": "tpu"}),
        (("--count", "0"), {"count": 0}),
        (("--count", "10"), {"count": 10}),
    ],
)
def test_what_the_command_line_refuses_python_refuses_too(words: tuple[str, ...], changed: dict[str, Any]) -> None:
    result, seen = run("--bucket", "b", *words)
    assert (result.exit_code, seen) == (2, [])
    with pytest.raises(UsageError, match=f"{words[0]}: expected .*, got"):
        Sample(bucket="b", **changed)


def test_text_that_cannot_be_read_is_wrong_usage() -> None:
    result, seen = run("--bucket", "b", "--size", "large")
    assert isinstance(result.exception, UsageError)
    assert seen == []


def test_a_missing_option_is_named() -> None:
    result, _ = run()
    assert "--bucket is missing" in str(result.exception)
    result, _ = run(main=False)
    assert (result.exit_code, "--bucket" in result.output) == (2, True)


def test_a_sub_command_needs_no_option_of_the_program() -> None:
    result, seen = run("other")
    assert (result.exit_code, seen) == (0, [])


def test_help_shows_choices_defaults_and_what_is_needed_first() -> None:
    result, _ = run("--help", main=False)
    assert result.output.index("--bucket") < result.output.index("--device")
    for shown in ("<auto|cpu>", "default: 1,2", "default: 3", "required"):
        assert shown in result.output


def test_every_program_tells_its_version() -> None:
    result, _ = run("--version")
    assert (result.exit_code, result.output.startswith("octprobe ")) == (0, True)


@pytest.mark.parametrize(
    "module",
    ["extract.cli", "extract.phantom.cli", "classify.cli", "finetune.cli", "reports.cli", "reports.classify_command"],
)
def test_every_command_runs_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("octprobe ")) == (0, True), done.stderr


@pytest.mark.parametrize(
    "made, words",
    [
        (TrackOptions, {"runs": Path("r"), "tracking_uri": "https://me:secret@tracker.example/"}),
        (ServeOptions, {"runs": Path("r"), "pages": Path("p"), "mlflow_url": "http://me@tracker.example"}),
        (StudyOptions, {"store": "s3://key:secret@bucket/x", "runs": Path("r"), "out": Path("o")}),
        (StudyOptions, {"store": "x", "runs": Path("r"), "out": Path("o"), "endpoint_url": "https://a:b@c.example"}),
        (ExtractOptions, {"bucket": "s3://a:secret@b", "store": "x", "encoder": "random:tiny"}),
        (ExtractOptions, {"bucket": "b", "store": ("x", "s3://a:secret@b/y"), "encoder": "random:tiny"}),
    ],
)
def test_no_option_takes_an_address_with_a_password(made: Any, words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="before an @") as refused:
        made(**words)
    assert "secret" not in str(refused.value)
