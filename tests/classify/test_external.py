"""People of another place: strangers to the run, locked and counted, and held against what the run reached at home."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import CHANNELS, Study, make_study
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from classify.cohort.vouched import NOBODY, Vouched
from classify.errors import CohortError, LeakError, RunFolderError
from classify.evaluate import evaluate
from classify.evaluating.look import Evaluated
from classify.evaluating.strangers import refuse_near_copies
from classify.features.standardise import Standardiser
from classify.features.table import FeatureTable
from classify.heads.contract import softmax
from classify.judging.bootstrap import draw_replicates, measure
from classify.judging.transport import measure_gap
from classify.options import ProbeOptions
from classify.predict import predict
from classify.probe import probe
from classify.reference.neighbours import KnownVolumes
from classify.reference.training import TrainingReference
from classify.run.estimate import Estimate
from classify.run.external_summary import external_lines, external_table
from classify.run.folder import load_run
from classify.run.ledger import LEDGER
from classify.run.predictions import Predictions, pick_predictions
from classify.run_options import EvaluateOptions, PredictOptions
from embeddings_store.errors import UsageError
from embeddings_store.schema import volume_id
from reports.coverage import StoreFacts
from reports.external import other_places
from reports.options import StudyOptions
from reports.runs import FinishedRun
from reports.study import write_study

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)
EFFECT, REPLICATES = 0.7, 100


def away(participants: int = 96, *, effect: float = EFFECT, seed: int = 9, shift: float = 0.0) -> Study:
    """Other people: other keys and numbers, of one site that the run does not know, the device moved by ``shift``."""
    study = make_study(participants, effect=effect, seed=seed)
    index = study.stored.index.assign(
        key="elsewhere/" + study.stored.index["key"], participant="B" + study.stored.index["participant"], site="berlin"
    )
    index = index.assign(volume=[volume_id(key) for key in index["key"]])
    people = study.people.assign(participant_id="B" + study.people["participant_id"], clinical_site="berlin")
    return Study(people, replace(study.stored, index=index, pooled=study.stored.pooled + np.float32(shift)))


def labels_of(study: Study, folder: Path, name: str = "labels.csv", **columns: Any) -> Path:
    """A table of labels as a hospital has it: no split, and only what is needed."""
    table = study.people.rename(columns={"participant_id": "participant", "clinical_site": "site"})
    path = folder / name
    table[["participant", "site", "age", "study_group"]].assign(**columns).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def home() -> Study:
    return make_study(160, effect=EFFECT)


@pytest.fixture(scope="module")
def runs(home: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    asked = ProbeOptions(
        store="store", model="linear", participants=home.write(folder), replicates=REPLICATES, runs=folder / "runs",
        task="healthy-vs-rest",
    )  # fmt: skip
    probe(asked, now=NOW, read=lambda *_: home.stored)
    return folder / "runs"


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    """A copy, so that each test counts its own looks."""
    source = next(path for path in runs.iterdir() if path.name.startswith("2026"))
    return Path(copytree(source, tmp_path / "runs" / source.name))


def look(study: Study, run: Path, labels: Path, **options: Any) -> Evaluated:
    asked = {"replicates": REPLICATES, "external": True, "runs": run.parent} | options
    return evaluate(
        EvaluateOptions(store="there", run=run, labels=labels, **asked), now=NOW, read=lambda *_: study.stored
    )


def test_a_run_is_judged_on_people_of_another_place(run: Path, tmp_path: Path) -> None:
    study = away()
    before = load_run(run)
    done = look(study, run, labels_of(study, tmp_path), recalibrate_on=40)
    entry = done.record.evaluations[-1]
    assert (entry["kind"], entry["look"], done.looks) == ("external", 1, 1)
    assert entry["sizes"]["participants"] == 56 and entry["recalibration"]["participants"] == 40
    assert entry["judged"]["metrics"]["participant"][entry["split"]]["macro_auroc"].low > 0.5
    assert entry["transport"]["home"] == "val"
    assert {line["name"] for line in entry["baselines_missing"]} >= {"site", "age+site", "pixels", "embedding+age+site"}
    assert set(entry["judged"]["baselines"]) == {"dummy", "age"}
    assert [line["device"] for line in entry["novelty"]] == ["heidelberg_spectralis", "topcon_triton"]
    assert all(line["in_training"] for line in entry["novelty"])
    after = load_run(run)
    assert after.record.judged == before.record.judged, "what the run said of its own people stays as it was"
    rows = after.predictions[after.predictions["split"] == entry["split"]]
    assert set(rows["model"]) == {"linear", "linear, recalibrated", "dummy", "age"}
    assert len(rows[(rows["model"] == "linear") & (rows["level"] == "participant")]) == 56
    ledger = (run.parent / LEDGER).read_text().splitlines()
    assert len(json.loads(ledger[0])["people"]) == 96, "those who recalibrate were seen, too"


def test_the_gap_is_that_of_the_published_predictions_and_its_interval_of_two_bootstraps(
    run: Path, tmp_path: Path
) -> None:
    entry = look(away(), run, labels_of(away(), tmp_path), recalibrate_on=0).record.evaluations[-1]
    loaded = load_run(run)
    there, home = (
        pick_predictions(loaded.predictions, model="linear", level="participant", split=split)
        for split in (entry["split"], "val")
    )
    gap = entry["transport"]["gap"]["macro_auroc"]
    areas = [roc_auc_score(part.label, part.scores[:, 1]) for part in (there, home)]
    assert gap.value == pytest.approx(areas[0] - areas[1], abs=1e-9)
    alone = [measure(part, draw_replicates(part.participant, replicates=400, seed=1), ("healthy", "rest"))[0]
             for part in (there, home)]  # fmt: skip
    widths = [one["macro_auroc"].high - one["macro_auroc"].low for one in alone]
    assert gap.high - gap.low == pytest.approx(np.hypot(*widths), rel=0.35)
    assert entry["recalibration"] == {"participants": 0, "absent": "nobody was drawn to recalibrate on"}


def test_two_looks_are_two_and_leave_the_runs_own_test_locked(home: Study, run: Path, tmp_path: Path) -> None:
    study = away()
    labels = labels_of(study, tmp_path)
    first, second = look(study, run, labels), look(study, run, labels, seed=5)
    assert (first.looks, second.looks) == (1, 2)
    said = [" ".join(external_lines(one.record, one.looks)) for one in (first, second)]
    assert ["no longer untouched: say so with every number" in one for one in said] == [False, True]
    (run.parent / LEDGER).unlink()
    assert look(study, run, labels).looks == 3, "the record knows whom it looked at"
    assert load_run(run).record.looks_at_test == []
    answered = predict(
        PredictOptions(run=run, store="store", out=tmp_path / "out.csv", runs=run.parent), read=lambda *_: home.stored
    )
    assert answered.summary["withheld"]["locked"] > 0, "a look outside opens no test people"


def test_who_was_looked_at_outside_is_not_trained_on_here(run: Path, tmp_path: Path) -> None:
    study = away()
    labels = labels_of(study, tmp_path)
    look(study, run, labels)
    asked = ProbeOptions(
        store="there", model="linear", task="healthy-vs-rest", participants=study.write(tmp_path), runs=run.parent,
        replicates=20,
    )  # fmt: skip
    with pytest.raises(LeakError, match="were test in"):
        probe(asked, now=NOW, read=lambda *_: study.stored)


def test_people_of_the_run_are_refused_under_whatever_name(home: Study, run: Path, tmp_path: Path) -> None:
    others = away()
    borrowed = home.stored.pooled[:8]
    with_copies = np.concatenate([borrowed, others.stored.pooled[8:]])
    copied = Study(others.people, replace(others.stored, pooled=with_copies))
    with pytest.raises(LeakError, match=r"people of run .* by the same scans .train: B") as refused:
        look(copied, run, labels_of(copied, tmp_path))
    assert "must be strangers to the run: leave these out of --labels" in str(refused.value)
    with pytest.raises(LeakError, match="test: "):
        look(home, run, labels_of(home, tmp_path, "home.csv"))
    assert not (run.parent / LEDGER).exists(), "nobody was looked at"
    same_numbers = away()
    people = same_numbers.people.assign(participant_id=same_numbers.people["participant_id"].str[1:])
    index = same_numbers.stored.index.assign(participant=same_numbers.stored.index["participant"].str[1:])
    renamed = Study(people, replace(same_numbers.stored, index=index))
    entry = look(renamed, run, labels_of(renamed, tmp_path, "same.csv")).record.evaluations[-1]
    shared = set(people["participant_id"]) & set(home.people["participant_id"])
    assert entry["place"]["same_number"] == len(shared) > 0, "a number alone is nobody, and told"


def test_nearly_the_same_scan_as_one_of_train_is_refused_and_can_be_vouched_for(run: Path, tmp_path: Path) -> None:
    reference, rng = TrainingReference.load(load_run(run).model_folder()), np.random.default_rng(0)
    raw = FeatureTable(
        x=(rng.normal(0, 1, (40, CHANNELS)) + 20).astype(np.float32), y=np.zeros(40, np.int64),
        volume=np.arange(40).astype(str), participant=np.array([f"B{n}" for n in range(40)]),
        eye=np.full(40, "L"), protocol=np.full(40, "spectralis_ppol_mac_hr"), split=np.full(40, "external"),
        names=("a",) * CHANNELS, space="s",
    )  # fmt: skip
    wide = rng.normal(0, 1, (40, 64)).astype(np.float32)
    known = rng.normal(0, 1, (60, 64)).astype(np.float32)
    wide[3] = known[7] + 0.01 * rng.normal(0, 1, 64)
    people = np.array([f"A{n}" for n in range(60)])
    trained = replace(
        reference, known=KnownVolumes.remember([known], people, people, np.zeros(60, np.int64)),
        standardiser=Standardiser((), np.zeros((1, 64)), np.ones((1, 64))),
    )  # fmt: skip
    table = replace(raw, x=wide)
    with pytest.raises(LeakError, match="B3 and A7 of train"):
        refuse_near_copies(load_run(run), trained, table, NOBODY)
    refuse_near_copies(load_run(run), trained, table, Vouched(pairs=frozenset({("A7", "B3")})))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "test"}, "expected one of them"),
        ({"external": False}, "--split test or --external: expected one of them, got neither"),
        ({"external": False, "split": "test", "recalibrate_on": 3}, "go with --external"),
        ({"split_column": "split"}, "not with --external"),
        ({"recalibrate_on": 96}, "--recalibrate-on 96: expected fewer than the 96 participants there"),
        ({"measurements": Path("m.csv")}, "--measurements: not with --external"),
        ({"random_twin": "twin"}, "--random-twin: not with --external"),
    ],
)
def test_options_that_say_nothing_outside_are_refused(
    run: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        look(away(), run, labels_of(away(), tmp_path), **options)


def test_another_embedding_space_is_refused_before_anybody_is_looked_at(run: Path, tmp_path: Path) -> None:
    study = away()
    other = Study(study.people, replace(study.stored, space=replace(study.stored.space, weights_sha256="7" * 64)))
    with pytest.raises(RunFolderError, match="which differs in weights_sha256"):
        look(other, run, labels_of(other, tmp_path))
    assert not (run.parent / LEDGER).exists()


def test_labels_that_the_task_does_not_know_are_listed(run: Path, tmp_path: Path) -> None:
    study = away()
    written = labels_of(study, tmp_path)
    table = pd.read_csv(written)
    table.loc[:10, "study_group"] = "type 3"
    table.to_csv(written, index=False)
    said: list[str] = []
    options = EvaluateOptions(
        store="there", run=run, labels=written, external=True, replicates=20, recalibrate_on=0, runs=run.parent
    )
    done = evaluate(options, now=NOW, read=lambda *_: study.stored, tell=said.append)
    assert done.record.evaluations[-1]["place"]["unknown_values"] == {"type 3": 11}
    assert any("does not know, left out: 'type 3' (11)" in line for line in said)
    assert done.record.evaluations[-1]["sizes"]["participants"] == 85
    table.assign(study_group="type 3").to_csv(written, index=False)
    with pytest.raises(CohortError, match=r"no label of study_group is known .* got 'type 3' .96.; write them as"):
        look(study, run, written)


def test_a_class_that_is_absent_there_leaves_absent_numbers_and_no_recalibration(run: Path, tmp_path: Path) -> None:
    study = away()
    written = labels_of(study, tmp_path)
    table = pd.read_csv(written)
    table[table["study_group"] != "healthy"].to_csv(written, index=False)
    entry = look(study, run, written).record.evaluations[-1]
    assert entry["absent_classes"] == ["healthy"]
    metrics = entry["judged"]["metrics"]["participant"][entry["split"]]
    assert metrics["macro_auroc"] == Estimate(absent="no unit of class healthy")
    assert metrics["accuracy"].interval
    assert entry["transport"]["gap"]["macro_auroc"] == Estimate(absent="there: no unit of class healthy")
    assert "of 14 participants drawn there are 0 of healthy" in entry["recalibration"]["absent"]
    assert entry["recalibration"]["participants"] == 0 and entry["sizes"]["participants"] == 72


def test_recalibrating_mends_a_moved_prevalence_and_its_people_are_not_judged(run: Path, tmp_path: Path) -> None:
    study = away(400)
    entry = look(study, run, labels_of(study, tmp_path), recalibrate_on=200).record.evaluations[-1]
    frame = load_run(run).predictions
    again, shown = (
        pick_predictions(frame, model=name, level="participant", split=entry["split"])
        for name in ("linear, recalibrated", "linear")
    )
    assert len(again.unit) == 200
    assert again.probability.mean(axis=0) == pytest.approx(np.bincount(again.label) / 200, abs=0.08)
    for name, part in (("before", shown), ("after", again)):
        assert entry["recalibration"][name]["log_loss"].value == pytest.approx(
            log_loss(part.label, part.probability), abs=1e-9
        )


def test_a_scan_farther_from_train_is_told_by_device(run: Path, tmp_path: Path) -> None:
    study = away(48, shift=30.0)
    device = study.stored.index["device"].replace("topcon_triton", "zeiss_cirrus")
    strange = Study(study.people, replace(study.stored, index=study.stored.index.assign(device=device)))
    record = look(strange, run, labels_of(strange, tmp_path), recalibrate_on=0).record
    heidelberg, zeiss = record.evaluations[-1]["novelty"]
    assert heidelberg["beyond"] == zeiss["beyond"] == 1.0
    assert heidelberg["in_training"] and not zeiss["in_training"]
    said = external_lines(record, 1)
    assert any("zeiss_cirrus" in line and "TRAINING HELD NONE OF THIS DEVICE" in line for line in said)
    assert any(line.startswith("recalibration: absent") for line in said)
    assert external_table(record).row_count > 5


def test_the_study_page_has_a_section_of_its_own(run: Path, tmp_path: Path) -> None:
    look(away(), run, labels_of(away(), tmp_path))
    place = other_places([FinishedRun(load_run(run))])[0]
    assert place.heading == "linear on people of berlin"
    headings = [table.heading for table in place.tables]
    assert headings[0] == "What the run reaches there" and "How new the scans are" in headings


def binormal(rng: np.random.Generator, people: int, effect: float) -> Predictions:
    """Scores of two classes that lie ``effect`` standard deviations apart; two scans of nobody."""
    label = (np.arange(people) % 2).astype(np.int64)
    score = rng.normal(effect * label, 1.0)
    logits = np.column_stack([np.zeros(people), score])
    names = np.array([f"p{number}" for number in range(people)])
    return Predictions("linear", "participant", "val", names, names, label, logits, softmax(logits))


def test_the_interval_of_the_gap_covers_the_truth() -> None:
    truth = norm.cdf(0.6 / np.sqrt(2)) - norm.cdf(1.4 / np.sqrt(2))
    rng, cohorts, covered = np.random.default_rng(0), 300, 0
    for number in range(cohorts):
        away, home = binormal(rng, 120, 0.6), binormal(rng, 90, 1.4)
        gap = measure_gap(away, home, ("no", "yes"), replicates=200, seed=number)["macro_auroc"]
        covered += gap.low <= truth <= gap.high
    assert 0.92 <= covered / cohorts <= 0.98


def test_the_draws_of_the_two_cohorts_have_nothing_in_common() -> None:
    people = binormal(np.random.default_rng(0), 80, 1.0)
    gap = measure_gap(people, people, ("no", "yes"), replicates=300, seed=1)["macro_auroc"]
    assert gap.value == 0.0
    assert gap.low < -0.05 and gap.high > 0.05, "one cohort against itself is no pair"


def test_the_page_shows_the_other_place_and_runs_without_one_do_not(run: Path, tmp_path: Path) -> None:
    def unread(_: object) -> FeatureTable:
        raise RunFolderError("not read here")

    space = load_run(run).record.asked.space
    facts = StoreFacts("store", space, {"family": "x", "precision": "fp32", "weights_sha256": "0"}, 1, 1, {}, {})
    options = StudyOptions(store="store", runs=run.parent, out=tmp_path / "page")
    before = write_study(options, facts=facts, features_of=unread, now=NOW).page.read_text()
    study = away(200)
    look(study, run, labels_of(study, tmp_path))
    page = write_study(options, facts=facts, features_of=unread, now=NOW).page.read_text()
    assert "other-places" not in before
    assert 'id="other-places"' in page and "linear on people of berlin" in page
    assert "these people had been looked at once. Nobody of them is known to the run" in page
    assert "participants of the place, drawn at random, who are not judged" in page
    assert "Minus val of the run" in page and "Recalibrated (logistic) on 40 participants" in page
    assert "The test split was looked at: <b>never</b>" in page


def test_a_damaged_split_of_a_run_is_still_refused(run: Path) -> None:
    path = run / "predictions.parquet"
    table = pd.read_parquet(path)
    table.assign(split="externally").to_parquet(path, index=False)
    with pytest.raises(RunFolderError, match="expected the splits"):
        load_run(run)


def test_scores_that_say_nothing_there_are_not_recalibrated_and_the_page_says_so(run: Path, tmp_path: Path) -> None:
    study = away(200)
    dealt = np.random.default_rng(1).permutation(study.people["study_group"])
    record = look(study, run, labels_of(study, tmp_path, study_group=dealt), recalibrate_on=100).record
    assert "no more than the class shares" in record.evaluations[-1]["recalibration"]["why_constant"]
    (place,) = other_places([FinishedRun(load_run(run))])
    (table,) = [one for one in place.tables if one.heading == "Calibration there"]
    assert "No calibration possible there (of people who were not fitted on" in table.caption
    assert table.caption.endswith("everybody is shown the class shares.")
