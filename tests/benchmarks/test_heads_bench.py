"""The bench of heads: what a cell is named by, and a table that compares like with like."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import heads
import numpy as np
import pytest
from head_peers import PEERS
from heads_measured import draw_table, name_of, replace_table
from optuna.trial import FixedTrial
from sklearn.base import clone


def cell(model: str, seed: int, score: float, *, structure: str = "dense", trials: int = 16, width: int = 8,
         ) -> dict[str, Any]:  # fmt: skip
    return {
        "structure": structure, "size": 100, "classes": 4, "seed": seed, "model": model, "trials": trials,
        "width": width, "bayes": 0.9, "seconds": 1.0, "score": score,
    }  # fmt: skip


def lines_of(table: str) -> dict[str, list[str]]:
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {name: cells for name, *cells in rows}


def test_a_column_compares_models_on_the_same_cohorts() -> None:
    """b was measured on an easy cohort more, c on none that others were, d with other trials: none may move a mean."""
    both = [cell("a", 0, 0.6), cell("a", 1, 0.8), cell("b", 0, 0.5), cell("b", 1, 0.7)]
    more = [cell("b", 2, 1.0), cell("c", 3, 0.9), cell("d", 0, 0.9, trials=0), cell("a", 0, 0.1, width=9)]
    found = lines_of(draw_table([*both, *more, cell("a", 0, 0.55, structure="sparse")], "abcd", trials=16, width=8))
    assert found["model"] == ["dense", "sparse", "seconds", "above its peer"]
    assert found["cohorts"] == ["2", "1", "", ""]
    assert found["a"] == ["0.700", "0.550", "1", "-"]
    assert found["b"] == ["0.600", "-", "1", "-"]
    assert not {"c", "d"} & set(found)
    found = lines_of(draw_table([*both, cell("c", 1, 0.9)], "abcd", trials=16, width=8))
    assert [found[name][0] for name in ("cohorts", "a", "b", "c")] == ["1", "0.800", "0.700", "0.900"]


def test_differences_are_taken_on_the_same_cohorts() -> None:
    """auto is compared with the best peer of a structure, a head with its own on every cohort that both have."""
    cells = [
        cell("linear", 0, 0.625), cell("linear", 1, 0.75), cell("linear", 2, 0.125),
        cell("LogisticRegression", 0, 0.5), cell("LogisticRegression", 1, 0.75),
        cell("SVC", 0, 0.375), cell("SVC", 1, 0.75), cell("auto", 0, 0.625), cell("auto", 1, 0.75),
    ]  # fmt: skip
    found = lines_of(draw_table(cells, ("linear", "auto", "LogisticRegression", "SVC"), trials=16, width=8))
    assert found["linear"][-1] == "+0.062 ± 0.062"
    assert found["auto"][-1] == "-"
    assert found["`auto` above the best peer there"] == ["+0.062 ± 0.062", "", ""]


def test_a_peer_of_more_neighbours_than_rows_takes_all_rows() -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    found = clone(PEERS["KNeighbors by cosine"](FixedTrial({"k": 84}))).fit(x, y).predict_proba(x[:2])
    np.testing.assert_allclose(found, 0.5)


def small(model: str, **given: Any) -> dict[str, Any]:
    return {"structure": "dense", "size": 60, "classes": 2, "seed": 0, "trials": 2, "width": 4, "model": model} | given


def test_auto_is_the_head_that_did_best_inside_train_and_is_not_measured_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(heads, "rivals_of", lambda *_: ["linear", "knn"])
    rivals = [small(name) for name in ("linear", "knn")]
    known = {name_of(one): one | heads.measure(one) for one in rivals}
    found = heads._auto_of(small("auto"), known)
    whole = heads.measure(small("auto"))
    assert found is not None
    assert {**found, "seconds": 0} == {**whole, "seconds": 0}
    assert found["inside"] == max(one["inside"] for one in known.values())
    assert heads._auto_of(small("auto", seed=1), known) is None


def test_a_cell_is_named_by_all_that_its_number_depends_on() -> None:
    one = cell("a", 0, 0.6)
    others = [one | {name: "other"} for name in ("structure", "size", "classes", "seed", "model", "trials", "width")]
    assert len({name_of(each) for each in (one, *others)}) == 8
    assert name_of(one | {"score": 0.1}) == name_of(one)
    kept = json.loads((heads.RESULTS / "heads.json").read_text())
    assert all(key == name_of(each) for key, each in kept.items())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    measured: list[dict[str, Any]] = []

    def measure(one: dict[str, Any]) -> dict[str, Any]:
        measured.append(one)
        return {"bayes": 0.9, "seconds": 1.0, "score": 0.5}

    monkeypatch.setattr(heads, "measure", measure)
    monkeypatch.setattr(heads, "RESULTS", tmp_path)
    yield measured


def test_a_width_is_measured_for_itself_and_a_short_run_apart(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    some = ["--structures", "dense", "--models", "linear,tokens-linear", "--sizes", "100", "--classes", "4",
            "--seeds", "0", "--trials", "2"]  # fmt: skip
    for width in ("8", "16", "8"):
        assert heads.main([*some, "--width", width]) == 0
    assert [(one["width"], one["model"]) for one in asked] == [(8, "linear"), (16, "linear")]
    heads.main([*some, "--width", "8", "--short"])
    assert len(asked) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"heads.json", "heads-short.json"}
    with pytest.raises(SystemExit):
        heads.main([*some, "--short", "--draw"])


def test_the_default_size_is_as_the_help_and_the_page_say() -> None:
    count = len(list(heads._cells(heads._parse([]))))
    page = heads.PAGE.read_text()
    assert f"{count:,} cells" in (heads.__doc__ or "")
    assert f"{count:,} cells" in page
    assert "cohorts |" in replace_table(page, draw_table([cell("a", 0, 0.6)], "a", trials=16, width=8))
