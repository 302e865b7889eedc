"""The flow's numbers add up, and its boxes hold them without lying over each other."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_run import build_run

from reports.flow import Flow, StoreCounts, make_flow
from reports.flow_diagram import Box, lay_out
from reports.runs import read_runs


def counts(committed: int = 608, missing: int = 70) -> StoreCounts:
    errors = {"DecodeError": 20, "TruncatedObject": 2}
    return StoreCounts(committed + 22 + missing, committed, errors, missing)


def add_up(flow: Flow) -> None:
    for step, after in zip(flow.steps, flow.steps[1:], strict=False):
        assert step.volumes - sum(out.volumes for out in step.left_out) == after.volumes, step.title


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("runs")
    build_run(folder, "a", model="linear")
    return list(read_runs(folder)[0].record.cohort.flow)


def test_volumes_add_up_from_bucket_to_splits(recorded: list[dict[str, object]]) -> None:
    flow = make_flow(counts(), recorded)
    add_up(flow)
    assert flow.steps[0].volumes == 700
    assert flow.steps[-1].title.startswith("Joined")
    assert sum(split.volumes for split in flow.splits) == flow.steps[-1].volumes
    assert sum(split.participants or 0 for split in flow.splits) == flow.steps[-1].participants
    assert [note.volumes for note in flow.notes] == [4]


def test_a_store_that_grew_since_the_run_says_so(recorded: list[dict[str, object]]) -> None:
    flow = make_flow(counts(committed=650), recorded)
    add_up(flow)
    assert any(out.reason == "committed after this run read the store" for out in flow.steps[1].left_out)


def test_a_store_that_shrank_since_the_run_says_so(recorded: list[dict[str, object]]) -> None:
    flow = make_flow(counts(committed=600), recorded)
    assert any("than the store holds now" in note.reason and note.volumes == 8 for note in flow.notes)


def test_a_run_without_a_flow_still_shows_the_store() -> None:
    flow = make_flow(counts(), [])
    assert [step.volumes for step in flow.steps] == [700]
    assert lay_out(flow).boxes[0].lines[-1] == "700 volumes"


def overlap(a: Box, b: Box) -> bool:
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.bottom and b.y < a.bottom


@given(reasons=st.lists(st.text(st.characters(categories=["L", "Zs"]), max_size=200), max_size=6))
def test_boxes_never_lie_over_each_other_or_outside(reasons: list[str]) -> None:
    steps = [
        {"step": "store", "kind": "total", "volumes": 608, "participants": 9, "reason": ""},
        *({"step": "x", "kind": "excluded", "volumes": 1, "participants": 1, "reason": r} for r in reasons),
        {"step": "analysed", "kind": "total", "volumes": 608 - len(reasons), "participants": 9, "reason": ""},
        *(
            {"step": s, "kind": "total", "volumes": 3, "participants": 1, "reason": r}
            for s, r in zip(("train", "val"), ("a" * 99, "b"), strict=True)
        ),
    ]
    diagram = lay_out(make_flow(counts(), steps))
    for a, b in combinations(diagram.boxes, 2):
        assert not overlap(a, b)
    for box in diagram.boxes:
        assert box.x >= 0
        assert box.x + box.width <= diagram.width
        assert box.bottom <= diagram.height
        assert box.height >= 19 * len(box.lines)
