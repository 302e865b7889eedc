"""How every command of the house talks: results on stdout, notes on stderr, one message an error, exit codes.

The library writes its notes to the logger "octprobe" and nothing else, so a program that calls it decides whether they
are heard; a command shows them on stderr. With --json, stdout is one JSON object and results for people are on stderr.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from embeddings_store.addresses import require_plain_line
from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.extras import describe_missing
from embeddings_store.places import describe_lack, settle_surroundings
from embeddings_store.plain_text import visible
from embeddings_store.terminal.endings import obey_endings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

INTERRUPTED = 130
LOG_WIDTH = 120
"""Columns of a table in a file or pipe, whose width could not be asked."""

LOG = logging.getLogger("octprobe")
LOG.addHandler(logging.NullHandler())
_json_on_stdout: ContextVar[bool] = ContextVar("json_on_stdout", default=False)


def run_command(app: typer.Typer) -> NoReturn:
    """Run a command line and leave with its exit code; an OctProbeError becomes one message, no traceback.

    Exit codes: 0 done; 1 the run failed; 2 wrong usage; 3 done, with error rows; 130 interrupted, by Ctrl-C, TERM or
    HUP.
    """
    _prepare_process()
    try:
        with notes_on_stderr():
            require_plain_line(sys.argv[1:], UsageError)
            sys.exit(app(standalone_mode=True))
    except OctProbeError as error:
        _complain(f"error: {error}\nhelp: {explained_at(error)}")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (missing := describe_missing(error)) is None:
            raise
        _complain(f"error: {missing}\nhelp: {page('troubleshooting.md')}#usageerror")
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # which is what typer makes of KeyboardInterrupt
            _say_interrupted()
        if fault := _fault_of_stdout():
            _leave_stdout(fault)
        raise
    except BrokenPipeError:
        _leave_stdout()
    except (OSError, RuntimeError, UnicodeEncodeError) as error:
        if not _is_of_machine(error):
            raise
        sys.exit(1)


@cache
def _say_interrupted() -> None:
    """Say it once, whoever comes first."""
    _complain("interrupted: nothing half-written was published; rows that were committed are kept")


def _is_of_machine(error: Exception) -> bool:
    """Return whether an error comes of a full stdout or of what the machine lacks, and say so."""
    # What failed to be flushed is gone, so one sign more is tried.
    if isinstance(error, OSError) and error.filename is None and (fault := _fault_of_stdout("\n")):
        _leave_stdout(fault)
    if lack := describe_lack(error):
        _complain(f"error: {lack}\nhelp: {page('troubleshooting.md')}#runerror")
    return lack is not None


def _fault_of_stdout(more: str = "") -> str | None:
    """Return why what was printed cannot be written, such as a full disk; None where it can."""
    try:
        print(more, file=sys.stdout, end="", flush=True)  # noqa: T201 - asks whether anything can be
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _leave_stdout(fault: str = "") -> NoReturn:
    """Leave with 1; what waits to be printed is dropped, or Python would try once more and complain."""
    if fault:
        _complain(f"error: the results cannot be printed: {fault}")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _prepare_process() -> None:
    settle_surroundings()
    obey_endings(INTERRUPTED, _say_interrupted)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # a terminal or file that lacks a sign gets its number


def explained_at(error: OctProbeError) -> str:
    """Return where an error is explained: the page as it lies on this machine, and its heading."""
    return f"{page('troubleshooting.md')}#{type(error).__name__.lower()}"


def page(name: str) -> Path:
    """Return where a page of docs/ lies: in a checkout, or where the wheel put it."""
    here = Path(__file__).parent.parent.parent / "docs" / name
    if (here.parent.parent / "pyproject.toml").is_file():
        return here
    try:
        own = next((one for one in files("octprobe") or () if one.match(f"octprobe/docs/{name}")), None)
    except PackageNotFoundError:
        own = None
    return Path(str(own.locate())).resolve() if own else here


def new_app(help_text: str) -> typer.Typer:
    """Make a command line whose errors and help look alike everywhere in the house."""
    return typer.Typer(
        help=help_text,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=False,
    )


class _OnStderr(logging.Handler):
    """Writes what was noted to stderr, whatever stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(record.getMessage())


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Show the library's notes on stderr until the block ends, once and without decoration."""
    before = LOG.handlers[:], LOG.level, LOG.propagate
    LOG.handlers[:], LOG.propagate = [_OnStderr()], False
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.handlers[:], LOG.propagate = before[0], before[2]
        LOG.setLevel(before[1])


def is_watched() -> bool:
    """Return whether a progress bar has a reader: notes are shown, and stderr is a terminal."""
    return LOG.isEnabledFor(logging.INFO) and sys.stderr.isatty()


def say(text: str) -> None:
    """Note something: on stderr in a command, in the log of a program that calls the library."""
    LOG.info("%s", visible(text))


@contextmanager
def json_on_stdout(asked: bool) -> Iterator[None]:
    """Keep stdout for the JSON object until the block ends, if asked: results for people go to stderr."""
    token = _json_on_stdout.set(asked)
    try:
        yield
    finally:
        _json_on_stdout.reset(token)


def show(text: str) -> None:
    """Write a result for people."""
    print(visible(text), file=_results(), flush=True)


def show_table(table: "Table") -> None:
    """Write a table for people; a narrow terminal breaks cells, and leaves no digit out."""
    for column in table.columns:
        column.overflow = "fold"
    result_console().print(table)


def result_console() -> "Console":
    """Return the console that results for people go to."""
    from rich.console import Console

    stream = _results()
    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(file=stream, highlight=False, markup=False, width=None if known else LOG_WIDTH)


def emit_text(text: str) -> None:
    """Print a whole table on stdout."""
    print(text, file=sys.stdout, end="", flush=True)  # noqa: T201 - the machine-readable output


def emit_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(record, indent=2), file=sys.stdout, flush=True)  # noqa: T201 - the machine-readable output


def _results() -> Any:
    return sys.stderr if _json_on_stdout.get() else sys.stdout


def _complain(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)  # noqa: T201 - the one place that writes to stderr
