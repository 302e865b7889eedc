"""--gpus: a process for each GPU, one of which talks; one that fails ends the others, and is heard."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from embeddings_store.errors import OctProbeError
from finetune.parallel import launch
from finetune.parallel.launch import gpus_to_start, start_processes, without_option

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES", "SLURM_PROCID", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.usefixtures("_four_gpus")
@pytest.mark.parametrize(
    ("device", "gpus", "surroundings", "started"),
    [
        ("cuda", None, {}, ("0", "1", "2", "3")),
        ("auto", 2, {}, ("0", "1")),
        ("cuda", (0, 3), {}, ("0", "3")),
        ("cuda", (3, 0), {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}, ("7", "4")),
        ("cuda", None, TORCHRUN, ()),
        ("cpu", None, {}, ()),
    ],
)
def test_every_gpu_has_a_process_unless_a_launcher_has_seen_to_it(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: Any, surroundings: dict[str, str], started: tuple[str, ...]
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    assert gpus_to_start(device, gpus) == started


@pytest.mark.usefixtures("_four_gpus")
@pytest.mark.parametrize(
    ("device", "gpus", "surroundings", "message"),
    [
        ("cuda", 5, {}, "expected 5 GPUs, and this machine has 4"),
        ("cpu", 2, {}, "--gpus belongs to --device cuda, and this run computes on cpu"),
        ("cuda", 2, TORCHRUN, "--gpus: this process is one of several"),
    ],
)
def test_gpus_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, surroundings: dict[str, str], message: str
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OctProbeError, match=message):
        gpus_to_start(device, gpus)


def test_one_gpu_needs_no_further_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus_to_start("auto", None) == ()


def test_the_option_is_left_out_of_what_is_started() -> None:
    words = ["--store", "--gpus", "0,3", "--gpus=2", "--gpus-of", "x", "--gpus"]
    assert without_option(words, "--gpus") == ["--store", "--gpus-of", "x"]


def play(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let each process run a few lines instead of the command; rank is its number."""
    code = f"import os, sys, time; rank = int(os.environ['RANK'])\n{script}"
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-S", "-c", code))


def test_each_process_is_given_its_number_and_its_gpus_and_one_talks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = "'RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_WORLD_SIZE CUDA_VISIBLE_DEVICES'.split()"
    script = f"open(sys.argv[1] + str(rank), 'w').write(' '.join(os.environ[n] for n in {names}))\nprint('x' * 3)"
    play(monkeypatch, script)
    assert start_processes(("7", "4"), [f"{tmp_path}/", "--gpus", "3,0"]) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["0 0 2 2 1 7,4", "1 1 2 2 1 7,4"]
    said = capfd.readouterr()
    assert said.out == "xxx\n"
    assert said.err == "GPUs: 2, a process for each\n"


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("sys.exit(3 if rank == 0 else 0)", 3, ""),
        ("sys.exit(1)", 1, ""),
        ("print(f'lost {rank}', file=sys.stderr)\nsys.exit(1) if rank == 1 else time.sleep(60)", 1, "lost 1"),
        ("os.kill(os.getpid(), 9) if rank == 1 else time.sleep(60)", 137, "ended without a word; is there enough mem"),
    ],
)
def test_one_that_fails_ends_the_others_and_is_heard(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], script: str, code: int, said: str
) -> None:
    play(monkeypatch, script)
    start = time.monotonic()
    assert start_processes(("0", "1"), []) == code
    assert time.monotonic() - start < 30
    assert said in capfd.readouterr().err


def test_a_terminal_that_is_gone_ends_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, "time.sleep(60)")
    begun: list[subprocess.Popen[bytes]] = []

    def interrupt(started: list[subprocess.Popen[bytes]], _: object) -> int:
        begun.extend(started)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start_processes(("0", "1"), [])
    assert [one.returncode for one in begun] == [-signal.SIGTERM] * 2


SAVING = """
import signal
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append("INT"))
signal.signal(signal.SIGTERM, lambda *_: heard.append("TERM"))
open(sys.argv[1] + str(rank), "w").write("ready")
end = time.monotonic() + 20
while not heard and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(1.5)  # a step that is longer than one who fails is waited for
open(sys.argv[1] + str(rank), "w").write(" ".join(heard))
sys.exit(143)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_each_process_is_asked_once_and_saves_its_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    play(monkeypatch, SAVING)
    monkeypatch.setattr(launch, "GRACE_S", 0.3)
    files = [tmp_path / "0", tmp_path / "1"]

    def ask() -> None:
        while not all(file.exists() and file.read_text() for file in files):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    Thread(target=ask, daemon=True).start()
    assert start_processes(("0", "1"), [f"{tmp_path}/"]) == code
    assert [file.read_text() for file in files] == ["TERM"] * 2
