"""P9: CPU seconds from a typed command to its help; the second start on a catalogue of 25,000 objects."""

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter, time_ns
from unittest.mock import patch

from comparison import Goal, Row, not_measured
from settings import Settings

from embeddings_store.command_line import parse_words
from extract.bucket.s3 import KEYS_PER_PAGE
from extract.options import ExtractOptions
from extract.selection import select_volumes

sys.path.append(str(Path(__file__).parent.parent))
from large_bucket import VOLUMES, make_large_bucket
from rclone_server import rclone_s3

COMMANDS = ("extract-embeddings", "classify", "reports", "oct-phantom")
GOAL = Goal(ours=0.3)
SECOND_START = Goal(ours=2.0)


def measure(settings: Settings) -> list[Row]:
    rounds = 1 if settings.quick else 7
    scripts = Path(sys.executable).parent
    present = [name for name in COMMANDS if (scripts / name).exists()]
    commands = {name: [str(scripts / name), "--help"] for name in present}
    commands |= {"python": [sys.executable, "-c", "pass"]}
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            spent[name].append(cpu_seconds(command))
    settled = {name: median(seconds[1:]) for name, seconds in spent.items()}
    rows = []
    for name in COMMANDS:
        work, peer = f"{name} --help", "python -c pass"
        if name in settled:
            figures = {"ours": settled[name], "peer_value": settled["python"]}
            rows += [Row(id="P9", work=work, peer=peer, unit="CPU s", goal=GOAL, rounds=rounds, **figures)]
        else:
            rows += [not_measured("the command is not installed", id="P9", work=work, peer=peer, unit="CPU s")]
    return [*rows, second_start(Path(settings.scratch), rounds, 1_500 if settings.quick else VOLUMES)]


def second_start(scratch: Path, rounds: int, volumes: int) -> Row:
    """Choose the volumes of a real S3 server: the first start lists, the others ask the catalogue."""
    make_large_bucket(scratch / "buckets" / "eye", volumes)
    pages = -(-(volumes + 1) // KEYS_PER_PAGE)  # with participants.tsv
    with rclone_s3(scratch / "buckets") as (endpoint, access_key, secret_key):
        keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
        with patch.dict(os.environ, keys | {"XDG_CACHE_HOME": str(scratch / "cache")}):
            options = parse_words(
                ExtractOptions, bucket="eye", endpoint_url=endpoint, store="unused", encoder="random:tiny"
            )
            seconds, lists = [], []
            for _ in range(rounds + 1):
                before = perf_counter()
                selection = select_volumes(options, now_ns=time_ns())
                seconds.append(perf_counter() - before)
                lists.append(selection.source.counts.list_requests)
                assert len(selection.refs) == volumes
    assert lists[0] == pages, lists
    assert not any(lists[1:]), lists
    figures = {"ours": median(seconds[1:]), "peer_value": seconds[0]}
    notes = f"{volumes:,} objects on a real S3 server: {pages} LIST, then 0"
    work, peer = "second start: listing, manifest and participants", "the first start"
    return Row(id="P9", work=work, peer=peer, unit="s", goal=SECOND_START, rounds=rounds, notes=notes, **figures)


def cpu_seconds(command: list[str]) -> float:
    """Run a command to its end and give the CPU time of the process and its children. Raises where it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command}: exit code {process.returncode}\n{errors.decode()}"
    return usage.ru_utime + usage.ru_stime
