"""What docs/store.md promises in two lines each, taken from the page itself and run as it stands there."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_makers import SPACE, WORKER, make_ref, make_refs, pooled_of, tokens_of, write_rows

from embeddings_store.schema import FACT_COLUMNS
from embeddings_store.snapshot import write_snapshot
from embeddings_store.token_codec import CODECS
from embeddings_store.writer import open_writer

PAGE = Path(__file__).parents[2] / "docs" / "store.md"
ROWS = 3


def snippet(title: str) -> str:
    """Take the code block that follows a line of the page."""
    found = re.search(re.escape(title) + r".*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, title
    return found[1]


def run(title: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(snippet(title), str(PAGE), "exec"), names)
    return names


@pytest.fixture(params=["float16", "int8"])
def token_dtype(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    writer = open_writer(str(tmp_path / "store"), replace(SPACE, token_dtype=request.param), worker=WORKER)
    writer.add_volumes(make_refs(ROWS))
    write_rows(writer, range(ROWS))
    write_snapshot(writer.storage.url)
    monkeypatch.chdir(tmp_path)
    return str(request.param)


def test_a_pooled_matrix_with_who_and_what_as_a_table(token_dtype: str) -> None:
    table = run("A table of pooled vectors")["table"]
    numbers = table.filter(like="last_mean_")
    assert numbers.shape == (ROWS, SPACE.width)
    assert table["volume"].tolist() == [ref.volume for ref in make_refs(ROWS)]
    assert table["device"].tolist() == [ref.device for ref in make_refs(ROWS)]
    np.testing.assert_array_equal(numbers, np.stack([pooled_of(row)[1, 0] for row in range(ROWS)]))


def test_a_token_grid_of_one_volume(token_dtype: str) -> None:
    codec, expected = CODECS[token_dtype], tokens_of(1)["last"]
    np.testing.assert_array_equal(run("The token grid of one volume")["tokens"], codec.decode(codec.encode(expected)))


def test_xarray_names_dimensions_and_coordinates(token_dtype: str) -> None:
    with run("Without OCTProbe")["volumes"] as volumes:
        assert volumes["pooled"].dims == ("volume", "layer", "pool", "channel")
        labels = {"volume", "participant", "eye", "device", "protocol", "layer", "pool"}
        assert labels | (set(FACT_COLUMNS) - {"eye"}) <= set(volumes.coords)
        mean = volumes["pooled"].sel(layer="last", pool="mean", volume=make_ref(2).volume)
        np.testing.assert_array_equal(mean.values, pooled_of(2)[1, 0])
