"""How every command of the house talks: JSON on stdout, the rest on stderr, one message an error, exit codes."""

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import typer

from embeddings_store.errors import OctProbeError
from embeddings_store.plain_text import visible

INTERRUPTED = 130


def run_command(app: typer.Typer) -> NoReturn:
    """Run a command line and leave with its exit code; an OctProbeError becomes one message, no traceback.

    Exit codes: 0 done; 1 the run failed; 2 wrong usage; 3 done, with error rows; 130 interrupted, by Ctrl-C, TERM or
    HUP.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:  # nohup's stays
            signal.signal(ending, signal.default_int_handler)
    try:
        sys.exit(app(standalone_mode=True))
    except OctProbeError as error:
        say(f"error: {error}\nhelp: {explained_at(error)}")
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # which is what typer makes of KeyboardInterrupt
            say("interrupted: nothing half-written was published; rows that were committed are kept")
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def explained_at(error: OctProbeError) -> str:
    """Return where an error is explained; a wheel puts the page into share/doc/octprobe."""
    return f"docs/troubleshooting.md#{type(error).__name__.lower()}"


def new_app(help_text: str) -> typer.Typer:
    """Make a command line whose errors and help look alike everywhere in the house."""
    return typer.Typer(
        help=help_text,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=False,
    )


def say(text: str) -> None:
    """Write a message for the user to stderr, so that stdout stays machine-readable."""
    print(visible(text), file=sys.stderr, flush=True)  # noqa: T201 - the one place that prints for people


def emit_text(text: str) -> None:
    """Print a whole table on stdout."""
    print(text, file=sys.stdout, end="", flush=True)  # noqa: T201 - the machine-readable output


def emit_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(record, indent=2), file=sys.stdout, flush=True)  # noqa: T201 - the machine-readable output
