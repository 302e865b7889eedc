"""The page's section on the encoders of a comparison: whose they are, whether trained, and on which terms."""

from pathlib import Path

import pytest
from simulated_run import build_run
from simulated_study import NOW, simulated_facts, simulated_features

from embeddings_store.encoder_source import EncoderSource
from embeddings_store.encoding_cost import EncodingCost
from reports.encoders import ENCODER_COLUMNS, WHICH_ENCODER, encoder_rows
from reports.options import StudyOptions
from reports.study import write_study
from reports.validity import PlainTable

RETFOUND = EncoderSource(
    "RETFound.pth", "retfound", "ab" * 32, None, "trained", "moved", "CC BY-NC <4.0>", "Zhou et al., Nature 2023"
)
TINY = EncoderSource("random:tiny,seed=0", "vjepa3d", "cd" * 32, None, "random", "a baseline")
RECORDS = {"ret": RETFOUND.to_record(), "own": TINY.to_record(), "old": None}
ROWS = [
    ("old", *["not recorded"] * 8),
    ("own", "random:tiny,seed=0", "vjepa3d", "no, random weights", *["not recorded"] * 3,
     *["as whoever trained it says"] * 2),
    ("ret", "RETFound.pth", "retfound", "yes", "36 (cpu)", "10 h, $20.00", "2,500 MB, 5 encoders together",
     "CC BY-NC <4.0>", "Zhou et al., Nature 2023"),
]  # fmt: skip
COSTS = {"ret": EncodingCost(10, 360.0, 2500.0, "cpu", 5, 2.0).to_record(), "own": None}


def test_a_row_for_each_store_with_licence_and_citation() -> None:
    assert encoder_rows(RECORDS, COSTS) == ROWS
    assert {len(row) for row in ROWS} == {len(ENCODER_COLUMNS)}
    assert encoder_rows({}, {}) == []


def test_the_page_has_them_as_a_section_that_its_contents_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = PlainTable("which-encoder", "Which encoder", WHICH_ENCODER, ENCODER_COLUMNS, ROWS)
    monkeypatch.setattr("reports.study.comparison_tables", lambda *_: [table])
    build_run(tmp_path / "runs", "one", model="linear")
    options = StudyOptions(store="store", runs=tmp_path / "runs", out=tmp_path)
    page = write_study(options, facts=simulated_facts(), features_of=simulated_features, now=NOW).page.read_text()
    assert '<li><a href="#which-encoder">Which encoder</a></li>' in page
    assert '<table id="which-encoder"' in page
    assert "CC BY-NC &lt;4.0&gt;" in page
    assert "Zhou et al., Nature 2023" in page
