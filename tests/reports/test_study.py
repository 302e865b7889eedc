"""The page holds what the records hold, escapes what they hold, and loads nothing."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from simulated_run import BASELINES, FOUR_CLASSES, build_run
from simulated_study import NOW, SPACE, simulated_facts, simulated_features

from classify.run.estimate import Estimate, Measures, lift
from embeddings_store.errors import RunError, UsageError
from reports.headline import number
from reports.options import StudyOptions
from reports.sections import leans
from reports.study import StudyPage, write_study

SECTIONS = {
    "summary",
    "cohort",
    "coverage",
    "results",
    "detail",
    "validity",
    "explanation",
    "runs",
    "checklist",
    "reading",
}
FIGURES = {"flow", "forest-val", "confusion", "roc", "reliability", "shap", "shap-volumes", "shap-volume", "map"}
LOADING = {"src", "href", "data", "action", "poster", "srcset", "xlink:href"}

OWN_ADDRESSES = ("data:image/svg+xml;base64,", "#", "model-card.html")


class PageReader(HTMLParser):
    """Collects text, ids, tags and every address that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.in_style = tag == "style"
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "img":
            self.alts.append(given.get("alt", ""))
        self.addresses += [value for name, value in given.items() if name in LOADING]

    def handle_endtag(self, tag: str) -> None:
        self.in_style = False

    def handle_data(self, data: str) -> None:
        if not self.in_style:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def read_page(path: Path) -> PageReader:
    reader = PageReader()
    reader.feed(path.read_text(encoding="utf-8").replace("<wbr>", ""))
    return reader


def make(tmp_path: Path, *, space: str = SPACE) -> tuple[StudyPage, PageReader]:
    study = write_study(
        StudyOptions(store="store", runs=tmp_path / "runs", out=tmp_path / "out"),
        facts=simulated_facts(space),
        features_of=simulated_features,
        now=NOW,
    )
    return study, read_page(study.page)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyPage, PageReader]:
    folder = tmp_path_factory.mktemp("study")
    build_run(folder / "runs", "run-lgbm", strength=0.8, participants=400)
    build_run(folder / "runs", "run-ordinal", model="ordinal", participants=400)
    return make(folder)


def test_every_section_and_figure_is_there(made: tuple[StudyPage, PageReader]) -> None:
    _, page = made
    assert page.ids >= SECTIONS | FIGURES
    assert all(page.alts)
    assert len(page.alts) == len(FIGURES) - 1  # the flow is SVG with a label


def numbers_of(measures: Measures) -> list[str]:
    shown = ("balanced_accuracy", "macro_auroc", "quadratic_weighted_kappa", "accuracy", "log_loss", "brier")
    return [measures[name].text(number) for name in shown]


def test_every_number_of_the_records_is_there(made: tuple[StudyPage, PageReader]) -> None:
    study, page = made
    for run in study.runs:
        for measured in numbers_of(run.record.judged.metrics["participant"]["val"]):
            assert measured in page.text
        for level in ("eye", "volume"):
            for measured in numbers_of(run.record.judged.metrics[level]["val"])[:3]:
                assert measured in page.text
        for name in BASELINES:
            for measured in numbers_of(run.record.judged.baselines[name]["val"]):
                assert measured in page.text
        difference = run.record.judged.difference_to_age_site["balanced_accuracy"]
        assert f"{number(difference.value, True)} ({number(difference.low, True)} to" in page.text


def test_what_a_reader_must_know_is_there(made: tuple[StudyPage, PageReader]) -> None:
    study, page = made
    assert page.text.count("Research use only — not for clinical decisions") >= 3
    for said in (SPACE, "ab" * 32, "2026-11-22", "s3://study/store", study.headline.claim, "looked at: never"):
        assert said in page.text
    for said in ("DecodeError", "TruncatedObject", "UCSD", "heidelberg_spectralis", "70 volumes: not tried yet"):
        assert said in page.text
    for said in ("classify probe --model lgbm --store demo/store", "seeds.bootstrap", "versions.lightgbm"):
        assert said in page.text
    assert "to be filled by the investigator" in page.text
    assert "It claims no compliance" in page.text


def assert_only_its_own_script(text: str) -> None:
    """One script, which the page's policy allows by its digest; no other may run, and none stands in an attribute."""
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    allowed = re.findall(r"script-src 'sha256-([^']+)'", text)
    assert len(scripts) == len(allowed) == text.count("<script>") == 1
    assert b64encode(sha256(scripts[0].encode()).digest()).decode() == allowed[0]
    assert not re.search(r"<[a-z][^>]*\son[a-z]+=", text)


def test_nothing_is_loaded_and_nothing_else_runs(made: tuple[StudyPage, PageReader]) -> None:
    study, page = made
    assert all(address.startswith(OWN_ADDRESSES) for address in page.addresses)
    assert page.tags.isdisjoint({"link", "iframe", "object", "embed", "form"})
    text = study.page.read_text()
    assert_only_its_own_script(text)
    assert re.findall(r"(?:https?:)?//[^\s\"'<]+", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)) == ["//study/store"]
    assert "@import" not in text
    assert sorted(path.name for path in study.page.parent.iterdir()) == [
        "explanation.npz",
        "model-card.html",
        "study.html",
    ]


def test_the_phantom_banner_is_there_for_a_phantom_only(tmp_path: Path, made: tuple[StudyPage, PageReader]) -> None:
    build_run(tmp_path / "runs", "real", model="linear", phantom=False)
    study, page = make(tmp_path)
    assert not study.phantom
    assert "PHANTOM" not in page.text.upper()
    assert "SYNTHETIC PHANTOM" in made[1].text


def test_one_phantom_among_others_marks_the_page(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "real", model="linear", phantom=False)
    build_run(tmp_path / "runs", "synthetic", model="linear", phantom=True)
    study, page = make(tmp_path)
    assert study.phantom
    assert "SYNTHETIC PHANTOM" in page.text
    assert "Some runs saw a synthetic phantom (synthetic) and others did not." in page.text


def test_absent_metrics_are_shown_with_their_reason(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "runs", "a", model="ordinal")
    record = json.loads((folder / "run.json").read_text())
    record["metrics"]["participant"]["val"]["macro_auroc"] = {"absent": "no unit of class insulin_dependent"}
    (folder / "run.json").write_text(json.dumps(record))
    _, page = make(tmp_path)
    assert "absent: no unit of class insulin dependent" in page.text
    assert "absent: too few participants" in page.text
    assert "absent: no LightGBM or linear run" in page.text


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    hostile = ("<script>alert(1)</script>", '"><img src=https://example.org/x>', "$\\frac{", "{{ 7*7 }}")
    build_run(tmp_path / "runs", "a", classes=hostile, change={"model": "lgbm", "versions": {"<b>": "</code><script>"}})
    study, page = make(tmp_path)
    assert_only_its_own_script(study.page.read_text())
    assert hostile[0] in page.text
    assert "{{ 7*7 }}" in page.text
    assert study.explanation.absent == ""
    assert all(address.startswith(OWN_ADDRESSES) for address in page.addresses)


def test_a_test_result_gets_its_own_tables(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "runs", "a", model="linear")
    record = json.loads((folder / "run.json").read_text())
    for level in record["metrics"].values():
        level["test"] = level["val"]
    (folder / "run.json").write_text(json.dumps(record))
    _, page = make(tmp_path)
    assert "forest-test" in page.ids
    assert "Test: participants" in page.text


def test_two_classes_make_a_page_too(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "a", classes=("healthy", "rest"), task="healthy-vs-rest")
    study, page = make(tmp_path)
    assert study.explanation.absent == ""
    assert page.ids >= FIGURES


def test_a_run_of_another_space_and_a_changed_confusion_are_said(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "a", model="linear", change={"confusion": {"participant": [[0] * 4] * 4}})
    study, page = make(tmp_path, space="another")
    assert [warning in page.text for warning in study.warnings] == [True] * 4
    assert "Few participants: the smallest class of val" in page.text
    assert "its predictions and its recorded confusion matrix disagree" in page.text
    assert "was made in the embedding space" in page.text


def test_a_fine_tuned_run_is_not_called_frozen(tmp_path: Path) -> None:
    tuned = {"stages": ["head", "last"], "encoder": {"weights_sha256": "ab" * 32}, "caution": "val chose the epoch"}
    build_run(tmp_path / "runs", "a", model="finetune", change={"parameters": tuned, "search": None})
    study, page = make(tmp_path)
    assert "Fine-tuning on retinal OCT volumes (stages head, last)" in page.text
    assert "then trained further to sha256 abab" in page.text
    assert "the epoch was chosen on validation participants" in page.text
    assert "Run a: val chose the epoch." in study.warnings
    assert "frozen" not in page.text


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "a", model="linear")
    (tmp_path / "out").write_text("a file")
    with pytest.raises(RunError, match="--out"):
        make(tmp_path)
    assert (tmp_path / "out").read_text() == "a file"


def test_no_runs_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match="expected finished runs"):
        make(tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_record_says_what_the_page_says(made: tuple[StudyPage, PageReader]) -> None:
    study, _ = made
    record = json.loads(json.dumps(study.to_record()))
    assert record["runs"] == ["run-lgbm", "run-ordinal"]
    assert record["claim"] == study.headline.claim
    assert record["phantom"] is True
    assert record["test_looks"] == 0
    assert set(FOUR_CLASSES) == set(study.runs[0].classes)


def away(value: float, low: float, high: float) -> dict[str, Any]:
    return {"participants": 20, "without": {"macro_auroc": {"value": value, "low": low, "high": high}}}


@pytest.mark.parametrize(("value", "overall", "is_said"), [(0.5, 0.8, True), (0.58, 0.66, False), (0.64, 0.8, False)])
def test_leaning_is_judged_over_all_places_together(value: float, overall: float, is_said: bool) -> None:
    """Each place alone holds chance, as it does with few people; all of them together may not."""
    lines = lift([away(value, value - 0.15, value + 0.15) for _ in range(3)])
    assert bool(leans(Estimate(overall, overall - 0.08, overall + 0.08), lines)) is is_said


@pytest.mark.parametrize(
    ("lows", "is_said"),
    [((0.4, 0.35, 0.45), True), ((0.4, 0.55, 0.45), False)],
)
def test_a_head_that_leans_on_the_site_is_said(tmp_path: Path, lows: tuple[float, ...], is_said: bool) -> None:
    lines = [away(0.52, low, 0.7) | {"held_out": site} for site, low in zip(("UW", "UAB", "UCSD"), lows, strict=True)]
    build_run(
        tmp_path / "runs", "a", model="ordinal", strength=2.0, participants=400, change={"robustness": {"site": lines}}
    )
    study, page = make(tmp_path)
    assert any("no site that it was not trained on" in warning for warning in study.warnings) is is_said
    assert ("may go with the site" in page.text) is is_said
    assert "cannot be known" not in page.text


@pytest.mark.parametrize(("known", "is_said"), [(0, True), (1, True), (2, False)])
def test_places_with_too_few_people_are_no_sign_that_nothing_leans(tmp_path: Path, known: int, is_said: bool) -> None:
    lines = [away(0.6, 0.55, 0.7) | {"held_out": site} for site in ("UW", "UAB")][:known]
    few = [
        {
            "held_out": "UCSD",
            "participants": 9,
            "without": {"macro_auroc": {"value": 0.4, "low": 0.1, "high": 0.9, "too_few": "3"}},
        }
    ]
    few += [{"held_out": "x", "participants": 9, "without": {"macro_auroc": {"absent": "no unit of class healthy"}}}]
    alone = [{"held_out": "one", "participants": 9, "absent": "all of train is device one: nothing is left to fit on"}]
    build_run(tmp_path / "runs", "a", model="ordinal", change={"robustness": {"site": [*lines, *few], "device": alone}})
    study, page = make(tmp_path)
    expected = f"leans on the site cannot be known: of {known + 2} sites, {known} hold enough of each class"
    assert any(expected in warning for warning in study.warnings) is is_said
    assert ("leans on the site cannot be known" in page.text) is is_said
    assert "leans on the device" not in page.text
