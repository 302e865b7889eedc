"""Results on stdout, notes on stderr, one JSON object with --json; pipes, NO_COLOR and narrow terminals behave."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from command_line import Command

PRINTS = """
import sys
from rich.table import Table
from embeddings_store.errors import StoreError
from embeddings_store.command_line import Options, verb
from embeddings_store.shared_options import Json
from embeddings_store.terminal.console import emit_json, new_app, run_command, say, show, show_table
from dataclasses import dataclass

app = new_app("An example.")

@dataclass(frozen=True, kw_only=True)
class Nothing(Options):
    pass

@verb(app)
def go(_: Nothing, *, json: Json = False) -> None:
    "Print."
    say("a note\\x1b[31m")
    table = Table(title="title")
    table.add_column("model")
    table.add_column("macro AUROC", style="bold red")
    table.add_row("a head with a long name", "0.688123456789 (0.639123456789 to 0.739123456789)")
    show_table(table)
    show("caf\\u00e9 \\u2013 " + "long " * 60)
    show("[bold]not markup[/bold]")
    if json:
        emit_json({"ok": True})

@verb(app)
def fail(_: Nothing) -> None:
    "Fail."
    raise StoreError("no store")

run_command(app)
"""
NUMBERS = ("0.688123456789", "0.639123456789", "0.739123456789")


def run(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}}
    return subprocess.run(
        [sys.executable, "-c", PRINTS, *words], env=clean | extra, capture_output=True, text=True, check=False
    )


def on_a_terminal(columns: int, **extra: str) -> str:
    """Run with stdout on a terminal of a width; give what it showed."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    subprocess.run(
        [sys.executable, "-c", PRINTS, "go"], env=clean | {"TERM": "xterm-256color"} | extra, stdout=terminal,
        stderr=subprocess.DEVNULL, stdin=terminal, check=True,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(main, 65536):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(main)
    return shown.decode()


def test_a_pipe_gets_results_whole_and_without_colour() -> None:
    done = run("go")
    assert (done.returncode, done.stderr) == (0, "a note\\x1b[31m\n")
    assert "\x1b" not in done.stdout
    for number in NUMBERS:
        assert number in done.stdout
    assert "long " * 60 in done.stdout, "a line in a file is one line"
    assert "[bold]not markup[/bold]" in done.stdout


def test_json_has_stdout_for_itself() -> None:
    done = run("go", "--json")
    assert done.stdout == '{\n  "ok": true\n}\n'
    assert all(number in done.stderr for number in NUMBERS)
    assert "a note" in done.stderr


def test_an_error_is_on_stderr_and_ends_with_a_place_that_exists() -> None:
    done = run("fail")
    assert (done.returncode, done.stdout) == (1, "")
    error, page = done.stderr.splitlines()
    place, _, anchor = page.removeprefix("help: ").partition("#")
    assert error == "error: no store"
    assert f"`{anchor}`" in Path(place).read_text().lower()


def test_a_stream_that_lacks_a_sign_gets_its_number() -> None:
    done = run("go", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "caf\\xe9 \\u2013" in done.stdout


@pytest.mark.parametrize("columns", [24, 40, 200])
def test_a_terminal_loses_no_digit_however_narrow(columns: int) -> None:
    shown = on_a_terminal(columns, NO_COLOR="1")
    assert "…" not in shown
    kept = "".join(one for one in shown if one.isdigit())
    for number in NUMBERS:
        assert columns < 60 or number in shown
        assert sum(kept.count(one) for one in "0123456789") >= 3 * len(number) - 3


def test_colour_is_for_terminals_that_want_it() -> None:
    assert "\x1b[1;31m" in on_a_terminal(100)
    shown = on_a_terminal(100, NO_COLOR="1")
    assert "31m" not in shown
    assert "\x1b" not in on_a_terminal(100, TERM="dumb")


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    line = f"{sys.executable} -c '{PRINTS}' go | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


PROGRAMS = ("extract.cli", "extract.phantom.cli", "classify.cli", "finetune.cli", "reports.cli")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_runs_as_a_module_and_says_when_it_cannot_print(program: str) -> None:
    line = [sys.executable, "-W", "ignore", "-m", program, "--version"]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.startswith("octprobe ")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: the results cannot be printed: No space left on device\n")


@pytest.mark.parametrize("words", [["go"], ["go", "--json"], ["--help"]])
def test_tables_and_objects_need_room_too(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        line = [sys.executable, "-c", PRINTS, *words]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert done.stderr.endswith("error: the results cannot be printed: No space left on device\n")


def test_a_store_s_status_can_be_redirected(clinic: Path, command: Command, tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = command(
        "extract-embeddings", "--bucket", clinic / "bucket", "--store", store, "--encoder", "random:tiny",
        "--image-size", "8,32,32", "--device", "cpu", "--limit", 4,
    )  # fmt: skip
    assert "4 volumes have a row" in made.stdout
    assert "4 of 4 volumes" in made.stderr
    done = command("extract-embeddings", "status", "--store", store)
    assert done.stdout.startswith("4 volumes, 4 committed")
    assert done.stderr == ""


def test_an_error_does_not_repeat_the_advice_to_load_a_file_unsafely(command: Command, tmp_path: Path) -> None:
    (tmp_path / "scan.npy").write_text("no array")
    done = command("extract-embeddings", "encode", tmp_path / "scan.npy", "--encoder", "random:tiny", "--out", "t.npy")
    assert done.code == 2
    assert "it holds no plain numbers" in done.stderr
    assert "pickle" not in done.stderr
