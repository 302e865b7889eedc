"""The commands on a store that need neither bucket nor encoder, as a user types them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import Command
from store_makers import SPACE, WORKER, make_refs, write_rows

from embeddings_store.reader import open_reader
from embeddings_store.terminal.progress import Progress
from embeddings_store.writer import open_writer

FULL = replace(SPACE, image_size=(8, 48, 64))


@pytest.fixture
def url(tmp_path: Path) -> str:
    writer = open_writer(str(tmp_path / "store"), FULL, worker=WORKER)
    writer.add_volumes(make_refs(3))
    write_rows(writer, range(3))
    return writer.storage.url


def test_export_writes_a_table(command: Command, url: str, tmp_path: Path) -> None:
    out = tmp_path / "pooled.parquet"
    finished = command("extract-embeddings", "export", "--store", url, "--out", out, "--format", "parquet", "--json")
    assert (finished.code, finished.json["rows"]) == (0, 3)
    assert pd.read_parquet(out).filter(like="last.mean.").shape == (3, FULL.width)
    again = command("extract-embeddings", "export", "--store", url, "--out", out, "--format", "parquet")
    assert again.code == 2
    assert "expected a new name" in again.stderr


def test_pool_makes_a_derived_store_and_says_what_rounding_cost(command: Command, url: str) -> None:
    asked = ("extract-embeddings", "pool", "--store", url, "--pool", "max,median", "--tokens", "1x1x2")
    finished = command(*asked, "--json")
    found = finished.json
    assert (finished.code, found["derived"]) == (0, 3)
    assert "mean of stored tokens, which are rounded, against the encoder's own, over 3 rows" in finished.stderr
    reader = open_reader(found["store"])
    assert reader.tokens(0, "last").shape == (1, 1, 2, FULL.width)
    np.testing.assert_array_equal(reader.committed(), [True] * 3)
    assert command(*asked, "--json").json["derived"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--pool", "mode"), "expected one of mean, max, std, min, median"),
        (("--pool", "max", "--tokens", "2x2"), "expected none, or three numbers such as 4x6x6"),
        (("--pool", "max", "--tokens", "5x1x1"), "expected a divisor of the stored 2x3x4"),
    ],
)
def test_a_wrong_wish_is_wrong_usage(command: Command, url: str, words: tuple[str, ...], message: str) -> None:
    finished = command("extract-embeddings", "pool", "--store", url, *words)
    assert finished.code == 2
    assert message in finished.stderr
    assert not (Path(url) / "derived").exists()


def test_status_says_what_rows_take(command: Command, url: str) -> None:
    finished = command("extract-embeddings", "status", "--store", url)
    assert "MB a row; 25,000 volumes take" in finished.stdout
    found = command("extract-embeddings", "status", "--store", url, "--json").json
    assert found["row_bytes_in_all"] == sum(found["row_bytes"].values())


def test_verify_names_each_damaged_file_and_fails(command: Command, url: str) -> None:
    assert command("extract-embeddings", "verify", "--store", url).code == 0
    worker = next((Path(url) / "workers").glob("*.json"))
    worker.write_text(worker.read_text().replace("cpu", "gpu"))
    finished = command("extract-embeddings", "verify", "--store", url, "--json")
    assert (finished.code, finished.json["bad"]) == (1, 0)
    assert finished.json["damaged_files"] == {f"workers/{worker.name}": "its checksum is another"}
    assert f"workers/{worker.name}: its checksum is another" in finished.stderr


@pytest.mark.parametrize("words", [("verify",), ("snapshot",), ("pool", "--pool", "max")])
def test_a_bar_hears_of_every_row(
    command: Command, url: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[tuple[int, int]]()

    @contextmanager
    def overheard(_words: str) -> Iterator[Progress]:
        yield lambda done, total: told.append((done, total))

    monkeypatch.setattr("embeddings_store.terminal.progress.row_bar", overheard)
    write_rows(open_writer(url, FULL, worker=WORKER), [0])
    shutil.rmtree(Path(url) / "derived", ignore_errors=True)
    assert command("extract-embeddings", *words, "--store", url).code == 0
    assert told[-1] == (3, 3)
