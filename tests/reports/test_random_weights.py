"""Random weights are said as loudly as a phantom on every kind of page, which then names no foundation model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_case import write_simulated_case
from simulated_run import build_run
from simulated_study import NOW, simulated_facts, simulated_features

from embeddings_store.encoder_source import EncoderSource, Training
from reports.model_card import write_model_card
from reports.options import StudyOptions
from reports.runs import read_runs
from reports.serve import Dashboard
from reports.study import write_study

BANNER = '<div class="phantom" role="alert"><strong>RANDOM WEIGHTS</strong>'


def study_page(runs: Path, out: Path) -> str:
    done = write_study(
        StudyOptions(store="store", runs=runs, out=out),
        facts=simulated_facts(),
        features_of=simulated_features,
        now=NOW,
    )
    return done.page.read_text()


def card_page(runs: Path, out: Path) -> str:
    write_model_card(read_runs(runs)[0], out, now=NOW)
    return (out / "model-card.html").read_text()


def case_page(runs: Path, out: Path) -> str:
    return write_simulated_case(runs, out, split_of_run="val")


def dashboard_page(runs: Path, out: Path) -> str:
    return Dashboard(runs, out, b"").index()


PAGES = {"study": study_page, "model_card": card_page, "case": case_page, "dashboard": dashboard_page}


def test_every_kind_of_page_is_here() -> None:
    templates = Path(__file__).parents[2] / "reports" / "templates"
    pages = {path.name.partition(".")[0] for path in templates.glob("*.j2") if "extends" in path.read_text()}
    assert pages - {"cross_validated", "benchmark"} == set(PAGES)  # which have the banner of the same base


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("training", ["random", "barely", "trained"])
def test_the_banner_is_on_it_where_nothing_was_learned(
    page: Callable[[Path, Path], str], training: Training, tmp_path: Path
) -> None:
    source = EncoderSource("random:tiny,seed=0", "vjepa3d", "ab" * 32, None, training, "as the doctor finds it")
    build_run(tmp_path / "runs", "one", model="linear", change={"encoder_source": source.to_record()})
    (tmp_path / "out").mkdir()
    text = page(tmp_path / "runs", tmp_path / "out")
    assert (BANNER in text) is (training != "trained")
    assert "foundation model" not in text
    assert "random:tiny,seed=0 (vjepa3d): as the doctor finds it" in text
