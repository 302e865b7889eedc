"""A run that is killed while it joins a volume from its parts goes on where it was, and ends as if nothing happened."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Command
from small_bucket import IMAGE_SIZE, assert_same_rows, options
from test_concatenation import bucket_of_parts

from embeddings_store.reader import open_reader
from extract.pipeline import extract

PEOPLE = 8

DYING = """
import os, signal, sys
from {module} import {cls} as owner
from extract.cli import main

whole, times = owner.{method}, []

def dying(self, *given):
    found = whole(self, *given)
    if {joins}:
        times.append(1)
        if len(times) == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
    return found

owner.{method} = dying
sys.argv[0] = "extract-embeddings"
main()
"""
PLACES = {
    "once the parts are looked at": ("extract.parts", "PartFinder", "_look_into", "True", 3),
    "once the parts are fetched": ("extract.parts", "PartFinder", "gather", "found", 4),
    "once the parts are joined": ("extract.load", "VolumeLoader", "_decode", "len(given) > 3", 4),
}


def run_and_die(bucket: Path, store: Path, place: str) -> None:
    module, owner, method, joins, at = PLACES[place]
    script = DYING.format(module=module, cls=owner, method=method, joins=joins, at=at)
    usual = ("--encoder", "random:tiny,seed=0", "--image-size", IMAGE_SIZE, "--tokens", "2x2x2", "--device", "cpu")
    line = [sys.executable, "-c", script, "--bucket", bucket, "--store", store, *usual]
    done = subprocess.run([str(word) for word in line], stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_a_run_killed_in_the_midst_of_joining_ends_like_another(tmp_path: Path, command: Command) -> None:
    bucket = bucket_of_parts(tmp_path / "eye", PEOPLE)
    for place in PLACES:
        run_and_die(bucket, tmp_path / "store", place)
    before = open_reader(str(tmp_path / "store"))
    assert before.committed().sum() < PEOPLE

    again, whole = (extract(options(bucket, tmp_path / name)) for name in ("store", "whole"))
    for summary in (again, whole):
        assert (summary["committed"], summary["parts"], summary["errors"]) == (PEOPLE, 2 * PEOPLE, {})
    assert_same_rows(tmp_path / "store", tmp_path / "whole")
    checked = command("extract-embeddings", "verify", "--store", tmp_path / "store", "--json").json
    assert (checked["checked"], checked["bad"], checked["orphans"], checked["damaged_files"]) == (PEOPLE, 0, 0, {})
