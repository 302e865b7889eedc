"""No object is lost: listed = committed + errors + skipped, and every broken kind ends as it should."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from rclone_server import rclone_s3

from embeddings_store.command_line import parse_words
from embeddings_store.reader import StoreReader, open_reader
from embeddings_store.schema import Note, SpacingSource
from extract.dry_run import describe_plan, plan_run
from extract.options import ExtractOptions
from extract.pipeline import extract

ENDS = {
    "truncated-native": "ShortPixelData",
    "truncated-encapsulated": "ShortPixelData",
    "no-pixeldata": "NoPixelData",
    "no-offset-table": Note.NONE,
    "empty-pixelmeasures": Note.NO_SPACING,
    "cirrus-thickness": Note.SPACING_UNRELIABLE,
    "per-frame-spacing": Note.NONE,
    "frame-count-mismatch": Note.FRAME_COUNT_DISAGREES,
    "duplicate-scan": Note.NONE,
    "folder-without-flag": Note.NONE,
}
"""The class of the error row, or what the row notes beside SYNTHETIC; the other kinds add no file that is a volume."""

Options = Callable[..., ExtractOptions]


@pytest.fixture
def phantom(tmp_path: Path, command: Command) -> dict[str, Any]:
    """A bucket at tmp_path/buckets/eye, broken in every way; what the generator says of it."""
    done = command(
        *("oct-phantom", "--out", tmp_path / "buckets/eye", "--participants", 3, "--scale", "0.03"),
        *("--break", "all", "--workers", 1, "--json"),
    )
    assert done.code == 0, done.stderr
    return done.json


@pytest.fixture
def options(
    tmp_path: Path,
    phantom: dict[str, Any],
    s3_credentials: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Options]:
    """Options of a run that reads the phantom from a real S3 server, with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with rclone_s3(tmp_path / "buckets") as (endpoint, access_key, secret_key):
        s3_credentials(access_key, secret_key)

        def make(**changed: Any) -> ExtractOptions:
            usual = {"store": str(tmp_path / "store"), "tokens": "none", "streams": 4}
            usual |= {"encoder": "random:tiny", "image_size": "16,48,48"}
            return parse_words(ExtractOptions, **{"bucket": "eye", "endpoint_url": endpoint, **usual, **changed})

        yield make


def notes_of(store: StoreReader) -> dict[str, Note]:
    """What each committed row notes, by key, beside being synthetic."""
    index = store.index()[store.committed()]
    notes = store.facts(index["row"].tolist())["notes"].astype(int)
    return {key: Note(int(note)) & ~Note.SYNTHETIC for key, note in zip(index["key"], notes, strict=True)}


@pytest.mark.s3
def test_every_object_is_accounted_for(tmp_path: Path, phantom: dict[str, Any], options: Options) -> None:
    summary = extract(options())

    objects = [path for path in (tmp_path / "buckets/eye").rglob("*") if path.is_file()]
    errors = sum(summary["errors"].values())
    assert summary["listed"] == len(objects)
    assert summary["listed"] == summary["committed"] + errors + summary["skipped"]
    assert summary["skipped_reasons"] == {"table": 2, "hidden file": 2, "not a .dcm": 1, "empty object": 1}

    store = open_reader(str(tmp_path / "store"))
    notes, keys = notes_of(store), store.index()["key"]
    failures = {keys[record.row]: record.failure.error for record in store.errors()}
    broken = phantom["broken"]
    ended = {kind: failures.get(broken[kind][0], notes.get(broken[kind][0])) for kind in ENDS}
    assert ended == ENDS
    assert set(broken) - set(ENDS) == {"flag-without-folder", "junk"}
    assert set(failures) == {broken[kind][0] for kind, end in ENDS.items() if isinstance(end, str)}
    rows = store.index()["row"][store.committed()].tolist()
    assert np.isfinite(store.pooled(rows)).all()

    facts = store.facts(rows).set_index(keys[rows])
    assert facts["spacing_source"][broken["per-frame-spacing"][0]] == SpacingSource.PER_FRAME
    assert facts["spacing_source"][broken["no-offset-table"][0]] == SpacingSource.SHARED
    assert facts["spacing_source"][broken["empty-pixelmeasures"][0]] == SpacingSource.NONE
    assert (facts["intensity_p01"] <= facts["intensity_p50"]).all()
    assert (facts["intensity_p50"] <= facts["intensity_p99"]).all()
    assert facts["intensity_mean"].between(0, 255).all()
    assert (facts["intensity_sd"] > 0).all()


@pytest.mark.s3
def test_the_report_counts_what_does_not_fit(phantom: dict[str, Any], options: Options) -> None:
    report = extract(options())["bucket_report"]
    repeats = [kind for kind in ENDS if kind not in ("folder-without-flag", "cirrus-thickness")]
    assert report["promised_without_files"] == len(phantom["broken"]["flag-without-folder"]) == 1
    assert report["files_without_promise"] == 1
    assert report["files_without_participant"] == 0
    assert report["duplicate_scans"] >= len(repeats)
    assert report["laterality_disagreements"] == report["in_manifest_only"] == report["not_in_manifest"] == 0
    assert report["junk"] == 4
    assert report["unknown_protocols"] == {}


@pytest.mark.s3
def test_a_second_start_asks_for_no_listing(tmp_path: Path, options: Options) -> None:
    first = extract(options(limit=2))
    second = extract(options(limit=2))
    anew = extract(options(limit=2, refresh=True))
    assert [run["list_requests"] > 0 for run in (first, second, anew)] == [True, False, True]
    assert second["catalogue"]["from_cache"]
    assert second["get_requests"] == 1, "participants.tsv, and both volumes are done"
    assert (second["listed"], second["skipped_reasons"]) == (first["listed"], first["skipped_reasons"])


@pytest.mark.s3
def test_a_selection_adds_up_too(options: Options) -> None:
    summary = extract(options(where="device=zeiss_cirrus,topcon_triton and eye=L", limit=3))
    assert summary["listed"] == summary["committed"] + sum(summary["errors"].values()) + summary["skipped"]
    assert summary["skipped_reasons"]["excluded by --where"] > 0
    assert summary["selected"] == 3


@pytest.mark.s3
def test_a_dry_run_foretells_the_run_and_writes_nothing(tmp_path: Path, options: Options) -> None:
    asked = options(where="device=zeiss_cirrus")
    plan = plan_run(asked)
    assert not (tmp_path / "store").exists()
    assert json.loads(json.dumps(plan)) == plan
    run = extract(asked)
    assert {name: plan[name] for name in ("listed", "selected", "skipped", "skipped_reasons")} == {
        name: run[name] for name in ("listed", "selected", "skipped", "skipped_reasons")
    }
    assert run["bytes"] - plan["bytes"] < 20_000, "the run fetched participants.tsv beside the volumes"
    assert run["get_requests"] == plan["get_requests"] + 1
    assert plan["dollars"] == {"absent": "prices are known for Backblaze B2 endpoints only"}
    assert "zeiss_cirrus" in describe_plan(plan)
    rows = [path for path in (tmp_path / "store").rglob("c.0.*") if path.is_file()]
    assert sum(path.stat().st_size for path in rows) == plan["row_bytes"]


@pytest.mark.s3
def test_the_object_cache_spares_the_bucket(tmp_path: Path, options: Options) -> None:
    kept = {"cache_dir": tmp_path / "objects", "cache_gb": 1.0, "where": "eye=L"}
    first = extract(options(**kept))
    second = extract(options(**kept, store=str(tmp_path / "again")))
    assert first["get_requests"] > second["get_requests"] == 1
    assert second["committed"] == first["committed"] > 0
    assert second["errors"] == first["errors"]
