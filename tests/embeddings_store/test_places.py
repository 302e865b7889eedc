"""A machine that lacks a home, room or a UTF-8 locale: it works, or one line says what to do."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from embeddings_store import places
from embeddings_store.errors import UsageError
from embeddings_store.places import NO_HOME, describe_lack, expand_home, settle_surroundings
from embeddings_store.reader import open_reader
from embeddings_store.terminal.console import new_app, run_command


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "TMPDIR"),
        (OSError("Matplotlib requires access to a writable cache directory, but ..."), "MPLCONFIGDIR"),
        (OSError(errno.ENOSPC, "No space left on device", "/some/vectors.npy"), "/some/vectors.npy: No space"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (RuntimeError("Could not determine home directory."), "set HOME"),
        (RuntimeError("could not determine the home directory for '~/.cache', set an absolute HOME"), "set HOME"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
                      "workers are out of shared memory."), "--shm-size"),
        (RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)"), "--shm-size"),
        (UnicodeEncodeError("utf-8", "a\udcdc", 1, 2, "surrogates not allowed"), "no UTF-8"),
    ],
)  # fmt: skip
def test_what_the_machine_lacks_is_one_line(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app("Fail.")

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["fail"])
    with pytest.raises(SystemExit) as left:
        run_command(app)
    assert left.value.code == 1
    line, helped = capsys.readouterr().err.splitlines()
    assert said in line
    assert helped.startswith("help: ")


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), FileNotFoundError(errno.ENOENT, "no file", "x")])
def test_a_fault_of_ours_keeps_its_traceback(error: Exception) -> None:
    assert describe_lack(error) is None


def test_the_home_of_a_stranger_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="~nobody-of-that-name/store: expected a user with a home"):
        expand_home("~nobody-of-that-name/store")
    with pytest.raises(UsageError, match="write the path out"):
        open_reader("~nobody-of-that-name/store")


def test_without_a_home_there_is_none_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(places, "user_cache_path", lambda *_, **__: no_home())
    with pytest.raises(OSError, match="Not a directory"):
        places.cache_folder().mkdir(parents=True)
    monkeypatch.setattr(Path, "home", no_home)
    settle_surroundings()
    assert "HOME" in os.environ
    monkeypatch.delenv("HOME")
    settle_surroundings()
    assert os.environ["HOME"] == NO_HOME


def test_a_latin_1_locale_reads_paths_as_utf_8(tmp_path: Path) -> None:
    made = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(tmp_path / "de_DE.ISO-8859-1")]
    try:
        subprocess.run(made, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("localedef cannot make a Latin-1 locale here")
    folder = tmp_path / "Übung"
    folder.mkdir()
    line = [str(Path(sys.executable).parent / "extract-embeddings"), "status", "--store", str(folder)]
    latin = {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE.ISO-8859-1", "LANG": "de_DE.ISO-8859-1"}
    surroundings = {name: value for name, value in os.environ.items() if name not in ("PYTHONUTF8", "PYTHONIOENCODING")}
    done = subprocess.run(line, capture_output=True, env=surroundings | latin, check=False)
    assert done.returncode == 1
    assert f"there is no store at {folder}".encode("latin-1") in done.stderr
