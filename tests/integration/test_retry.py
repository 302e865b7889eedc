"""Error rows: grouped by stage and class, lifted by class, and counted over all tries."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command, Finished

from embeddings_store.reader import open_reader
from embeddings_store.schema import VolumeFailure
from extract.bucket.folder import FolderSource
from extract.bucket.source import Fetched, Wanted
from extract.errors import FetchError

Run = Callable[[], Finished]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def run(tmp_path: Path, store: Path, command: Command) -> Run:
    """Extract a bucket with two broken files."""
    made = command(
        *("oct-phantom", "--out", tmp_path / "bucket", "--participants", 1, "--scale", "0.03", "--workers", 1),
        *("--devices", "zeiss_cirrus", "--break", "truncated-native,no-pixeldata"),
    )
    assert made.code == 0, made.stderr
    line = ("--bucket", tmp_path / "bucket", "--store", store, "--encoder", "random:tiny", "--tokens", "none")
    return lambda: command("extract-embeddings", *line, "--json")


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let one healthy object not come, as long as a test likes."""
    fetch = FolderSource.fetch
    down: list[bool] = []

    def sometimes(self: FolderSource, wanted: Wanted) -> Fetched:
        if down[-1] and "_l_" in wanted.key and "cirrus_mac" in wanted.key:
            raise FetchError("00c0ffee00c0ffee: the body broke off")
        return fetch(self, wanted)

    monkeypatch.setattr(FolderSource, "fetch", sometimes)
    return down.append


def failures(store: Path) -> dict[str, VolumeFailure]:
    return {record.failure.error: record.failure for record in open_reader(str(store)).errors()}


def attempts(store: Path) -> dict[str, int]:
    return {error: failure.attempts for error, failure in failures(store).items()}


def test_retry_takes_the_transient_ones_and_counts_their_tries(
    store: Path, run: Run, command: Command, cut_off: Callable[[bool], None]
) -> None:
    cut_off(True)
    first = run()
    assert first.code == 3
    assert first.json["errors"] == {"FetchError": 1, "ShortPixelData": 1, "NoPixelData": 1}
    assert attempts(store) == {"FetchError": 1, "ShortPixelData": 1, "NoPixelData": 1}
    assert run().json["errors"] == first.json["errors"], "nothing is tried again unasked"
    assert attempts(store) == {"FetchError": 1, "ShortPixelData": 1, "NoPixelData": 1}

    lifted = command("extract-embeddings", "retry", "--store", store, "--json")
    assert lifted.json == {
        "lifted": 1,
        "stay": 2,
        "lifted_by_class": {"FetchError": 1},
        "stay_by_class": {"ShortPixelData": 1, "NoPixelData": 1},
    }
    assert "lifted: FetchError 1" in lifted.stderr
    assert "stays:  ShortPixelData 1" in lifted.stderr
    assert attempts(store) == {"ShortPixelData": 1, "NoPixelData": 1}
    assert run().json["errors"] == first.json["errors"]
    assert attempts(store) == {"FetchError": 2, "ShortPixelData": 1, "NoPixelData": 1}

    assert command("extract-embeddings", "retry", "--store", store, "--classes", "all", "--json").json["lifted"] == 3
    cut_off(False)
    last = run()
    assert last.json["errors"] == {"ShortPixelData": 1, "NoPixelData": 1}
    assert attempts(store) == {"ShortPixelData": 2, "NoPixelData": 2}
    assert len(list((store / "errors").iterdir())) == 2, "nothing is left of a row that succeeded"


def test_chosen_classes(store: Path, run: Run, command: Command) -> None:
    run()
    nothing = command("extract-embeddings", "retry", "--store", store, "--json").json
    assert (nothing["lifted"], nothing["stay"]) == (0, 2)
    some = command("extract-embeddings", "retry", "--store", store, "--classes", "NoPixelData,FetchError", "--json")
    assert (some.json["lifted_by_class"], some.json["stay_by_class"]) == ({"NoPixelData": 1}, {"ShortPixelData": 1})
    typo = command("extract-embeddings", "retry", "--store", store, "--classes", "nopixeldata")
    assert typo.code == 2
    assert "ShortPixelData" in typo.stderr
    assert attempts(store) == {"ShortPixelData": 1}


def test_status_groups_by_stage_and_class(
    store: Path, run: Run, command: Command, cut_off: Callable[[bool], None]
) -> None:
    cut_off(True)
    run()
    groups = command("extract-embeddings", "status", "--store", store, "--json").json["error_groups"]
    assert sorted((group["stage"], group["error"], group["rows"], group["most_attempts"]) for group in groups) == [
        ("decode", "NoPixelData", 1, 1),
        ("decode", "ShortPixelData", 1, 1),
        ("fetch", "FetchError", 1, 1),
    ]
    table = command("extract-embeddings", "status", "--store", store).stdout
    assert "by default" in next(line for line in table.splitlines() if "FetchError" in line and "fetch" in line)


def test_an_error_row_says_stage_class_message_attempts_and_versions(store: Path, run: Run) -> None:
    run()
    for record in open_reader(str(store)).errors():
        assert record.failure.stage == "decode"
        assert record.failure.error in {"ShortPixelData", "NoPixelData"}
        assert record.failure.message
        assert {"octprobe", "pydicom", "python"} <= record.versions.keys()
