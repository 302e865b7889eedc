"""The commands, on a real store and a real run."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from simulated_store import SPACE, build_store
from typer.testing import CliRunner

from classify.options import ProbeOptions
from classify.probe import probe
from embeddings_store.errors import StoreError
from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_features_source
from reports.cli import app
from reports.coverage import read_store_facts, without_credentials


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    store, participants = build_store(folder)
    for model in ("lgbm", "linear"):
        options = ProbeOptions(
            store="store", model=model, participants=participants, replicates=50, runs=folder / "runs"
        )
        probe(options, now=datetime(2026, 11, 20, tzinfo=UTC), read=lambda *_: read_features_source(str(store)))
    return folder


def test_study_writes_the_page_of_real_runs(place: Path) -> None:
    command = ["study", "--store", str(place / "store"), "--runs", str(place / "runs"), "--out", str(place / "out")]
    result = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["explanation_absent"] == ""
    (caution,) = record["warnings"]
    assert caution.startswith("Few participants")
    assert record["phantom"] is True
    assert len(record["runs"]) == 2
    assert record["claim"] in result.stderr
    page = (place / "out" / "study.html").read_text()
    for said in (
        SPACE.id,
        "cd" * 32,
        "1 volume: error: DecodeError",
        "1 volume: not tried yet",
        "Most: last/mean/000",
    ):
        assert said in page
    assert "not in run.json" not in page


def test_the_store_facts_add_up(place: Path) -> None:
    facts = read_store_facts(open_reader(str(place / "store")))
    assert (facts.indexed, facts.committed, facts.errors_by_class, facts.missing) == (122, 120, {"DecodeError": 1}, 1)
    for rows in facts.coverage.values():
        assert sum(row.indexed for row in rows) == facts.indexed
        assert sum(row.committed for row in rows) == facts.committed


def test_a_missing_store_is_one_message(place: Path) -> None:
    command = ["study", "--store", str(place / "nowhere"), "--runs", str(place / "runs"), "--out", str(place / "o")]
    with pytest.raises(StoreError, match="nowhere"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (place / "o").exists()
    assert not (place / "nowhere").exists()


def test_addresses_lose_their_credentials() -> None:
    assert without_credentials("s3://key:secret@bucket/prefix") == "s3://bucket/prefix"
    assert without_credentials("demo/store@home") == "demo/store@home"


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom reports.cli import app\n"
        "assert CliRunner().invoke(app, ['study', '--help']).exit_code == 0\n"
        "heavy = {'numpy', 'pandas', 'matplotlib', 'mlflow', 'jinja2', 'sklearn', 'lightgbm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
