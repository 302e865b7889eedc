"""Publishing: whole or not at all, each process under a name of its own, and nothing of a killed one stays."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from embeddings_store import publish
from embeddings_store.errors import UsageError
from embeddings_store.publish import LONGEST, place_aside, published, sweep

KILLED = """
import os, signal, sys
from pathlib import Path
from embeddings_store.publish import place_aside
with place_aside(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    if sys.argv[2] == "wait":
        print("ready", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def writer(path: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (sys.executable, "-c", KILLED, path, what), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("name", ["table.csv", "image.nii.gz", "x" * 255, "ü" * 120])
def test_a_file_keeps_its_ending_while_it_is_written_and_then_replaces_the_old_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    with published(path) as aside:
        assert aside.name == name
        assert aside.parent.parent == tmp_path
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208 - hidden ones, too


def test_a_folder_appears_whole_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with published(tmp_path / "run") as aside:
        (aside / "model").mkdir(parents=True)
        (aside / "model" / "weights").write_text("1")
    with pytest.raises(KeyboardInterrupt), published(tmp_path / "other") as aside:
        aside.mkdir()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "model" / "weights").read_text() == "1"


def test_two_writers_have_names_of_their_own_and_the_file_is_of_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with published(path) as one, published(path) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one"  # the later rename
    with place_aside(path), pytest.raises(UsageError, match="another process is writing there"):
        place_aside(path, alone=True).__enter__()
    with place_aside(tmp_path / "another"), place_aside(path, alone=True):
        pass


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    living = writer(tmp_path / "living", "wait")
    assert living.stdout is not None
    assert living.stdout.readline() == "ready\n"
    writer(tmp_path / "dead", "kill").communicate()
    (tmp_path / ".someone.else").mkdir()
    (tmp_path / ".killed.before.its.lock.aside").mkdir()
    (foreign := tmp_path / ".someone.file.aside").mkdir()
    (foreign / "kept").touch()
    sweep.cache_clear()
    with published(tmp_path / "new") as aside:
        aside.touch()
    assert {path.name[:7] for path in tmp_path.iterdir()} == {".living", ".someon", "new"}
    (foreign / "kept").unlink()
    foreign.rmdir()
    with pytest.raises(UsageError, match="another process is writing there"):
        place_aside(tmp_path / "living", alone=True).__enter__()
    living.communicate()
    sweep.cache_clear()
    with published(tmp_path / "living", durable=False) as aside:
        aside.touch()
    assert {path.name for path in tmp_path.iterdir()} == {".someone.else", "new", "living"}


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"), published(tmp_path / "missing" / "x"):
        pass
    assert LONGEST < 100


def test_what_is_swept_while_it_is_made_is_made_again_and_a_lock_goes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = publish.tempfile.mkdtemp, list[str]()

    def make_and_lose(**words: Any) -> str:
        made.append(make(**words))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(publish.tempfile, "mkdtemp", make_and_lose)
    with published(tmp_path / "new") as aside:
        aside.touch()
    assert len(made) == 2

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), place_aside(tmp_path / "cut") as aside:
        aside.mkdir()
        monkeypatch.setattr(publish.shutil, "rmtree", stopped)
    assert (aside.parent / publish.LOCK).exists()
