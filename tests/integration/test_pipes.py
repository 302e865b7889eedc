"""A pipe where a file should be: every reader ends at once, in one line; none waits for a writer that never comes."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ARCHIVE = Path(__file__).parent.parent / "fixtures" / "old_runs.tar.xz"
PATIENCE_S = 60

READERS = {
    "record": ("run.json", "load_run(run)"),
    "predictions": ("predictions.parquet", "load_run(run)"),
    "cohort": ("cohort.parquet", "load_run(run)"),
    "head": ("model/head.json", "load_head(run / 'model')"),
    "arrays": ("model/head.npz", "load_head(run / 'model')"),
    "trees": ("model/head.lightgbm.txt", "load_head(lgbm / 'model')"),
    "network": ("model/head.safetensors", "load_head(mlp / 'model')"),
    "standardiser": ("model/standardiser.npz", "load_run(run).model_folder()"),
    "any file of a model": ("model/other", "load_run(run).model_folder()"),
    "a JSON file": ("x.json", "read_json(run / 'x.json')"),
    "an npz file": ("x.npz", "read_arrays(run / 'x.npz')"),
    "ledger": ("test_ledger.jsonl", "read_ledger(run)"),
    "ledger to write": ("test_ledger.jsonl", "append_look(run, LedgerLine('r', 'd', 'c'))"),
    "lock of the ledger": (".test_ledger.lock", "enter(ledger_lock(run))"),
    "people vouched for": ("people.txt", "read_vouched(run / 'people.txt')"),
    "journal": ("journal.log", "mend_journal(run / 'journal.log')"),
    "lock of a study": (".lock", "enter(hold_study(run))"),
    "table of text": ("people.tsv", "read_file(run / 'people.tsv', 'x', UsageError)"),
    "YAML": ("x.yaml", "read_mapping(run / 'x.yaml', 'x')"),
    "root of a store": ("zarr.json", "open_reader(str(run))"),
    "row of a store": ("commit/c.0.0", "list(open_storage(str(run), create=False).read_into('commit/c.0.0', room))"),
    "object of a store": ("index/x", "open_storage(str(run), create=False).get('index/x')"),
    "state of a training": ("000001/state.json", "StateFolder(run).load()"),
    "weights of a training": ("000001/best.safetensors", "StateFolder(run).load()"),
}
"""What is a pipe, and what reads it; by what it is."""

SAID = {"a run of before": ("run.json", "find_earlier(run.parent, tell.append)"),
        "people of a run of before": ("cohort.parquet", "find_earlier(run.parent, tell.append)"),
        "a run of a page": ("run.json", "read_runs(run.parent, tell=lambda one: tell.append(one.reason))")}  # fmt: skip
"""Readers that go on with the other runs, and say so."""

CODE = """
import os, sys
from contextlib import ExitStack
from pathlib import Path
import numpy as np
from classify.cohort.vouched import read_vouched
from classify.heads import load_head
from classify.model_files import read_arrays, read_json
from classify.run.earlier import find_earlier
from classify.run.folder import load_run
from classify.run.ledger import LedgerLine, append_look, ledger_lock, read_ledger
from classify.search.journal import hold_study, mend_journal
from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.reader import open_reader
from embeddings_store.storage import open_storage
from embeddings_store.text_table import read_file
from embeddings_store.yaml_file import read_mapping
from finetune.training.resume import StateFolder
from reports.runs import read_runs

def enter(manager):
    with manager:
        pass

run, lgbm, mlp = map(Path, sys.argv[1:])
room, tell = np.zeros(8, np.uint8), []
readers, said = {readers!r}, {said!r}
for what, (name, code) in (readers | said).items():
    folder = lgbm if "lgbm" in code else mlp if "mlp" in code else run
    path, aside = folder / name, folder / (name + ".aside")
    path.parent.mkdir(parents=True, exist_ok=True)
    was_there = path.exists()
    if was_there:
        path.rename(aside)
    os.mkfifo(path)
    print(what, end=": ", flush=True)
    tell.clear()
    try:
        eval(code)
        assert what in said and len(tell) == 1 and "\\n" not in tell[0], (what, tell)
        print(tell[0], flush=True)
    except OctProbeError as error:
        assert what in readers and "\\n" not in str(error), (what, error)
        print(error, flush=True)
    path.unlink()
    if was_there:
        aside.rename(path)
"""


def test_every_reader_refuses_a_pipe_at_once(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    runs = {head: next((tmp_path / "runs").glob(f"*-{head}-*")) for head in ("linear", "lgbm", "mlp")}
    code = CODE.replace("{readers!r}", repr(READERS)).replace("{said!r}", repr(SAID))
    line = [sys.executable, "-W", "ignore", "-c", code, *map(str, runs.values())]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = done.stdout.splitlines()
    assert len(lines) == len(READERS) + len(SAID)
    assert [one for one in lines if str(tmp_path / "runs" / "x") in one] == []


@pytest.mark.parametrize("name", ["commit/c.0.0", "facts/zarr.json", "index/000000-0a1b.parquet"])
def test_a_pipe_in_a_store_is_one_line(name: str, tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    path = tmp_path / "store" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    code = "import sys; from extract.cli import main; sys.argv[0] = 'extract-embeddings'; main()"
    for words in (["status"], ["verify"]):
        line = [sys.executable, "-W", "ignore", "-c", code, *words, "--store", str(tmp_path / "store")]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert "Traceback" not in done.stderr, done.stderr
    shutil.rmtree(tmp_path / "store")
