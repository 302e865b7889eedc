"""Everything is chosen inside train, by participants, and the same for the same seed, however often it is cut off."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classify_study import CHANNELS, Study, make_study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.splits import check_no_leak
from classify.cohort.tasks import TASKS
from classify.errors import CohortError
from classify.features.table import FeatureChoice
from classify.fitting.aggregate import AGGREGATIONS, LEARNED
from classify.fitting.model import ModelSpec, predict_out_of_fold
from classify.fitting.source import FeatureSource
from classify.heads import HEADS
from classify.run.predictions import Predictions
from classify.run.typed_record import as_json
from classify.search.folds import FOLDS, Fold, count_folds, make_folds
from classify.search.journal import hold_study
from classify.search.scoring import FoldScorer
from classify.search.search import STUDIES, Chosen, SearchPlan, check_plan, choose_model
from classify.search.spaces import GRIDS, SPACES, Among, SearchSpace, is_inside
from classify.search.study import Drawing
from classify.search.study import Study as OptunaStudy
from classify.search.trials import (
    BEHIND,
    FIRST_JUDGED,
    JUDGED_BY,
    TrialBudget,
    Tried,
    drawing_of,
    falls_behind,
    run_trials,
)
from classify.search.workers import TOGETHER, FoldWorkers, open_folds
from embeddings_store.errors import UsageError

STARTUP_TRIALS = Drawing.startup


def train_source(study: Study, folder: Path) -> FeatureSource:
    stored = study.stored
    cohort = join_cohort(stored.index, stored.pooled, read_participants(study.write(folder)), TASKS["four-class"])
    return FeatureSource(cohort, stored.pooled, stored.space).only("train")


def choose(source: FeatureSource, folder: Path, model: str = "linear", **asked: Any) -> Chosen:
    said: list[str] = asked.pop("said", [])
    folder.mkdir(exist_ok=True)
    return choose_model(SearchPlan(model, **asked), source, runs=folder, facts={}, tell=said.append)


def record_of(chosen: Chosen) -> dict[str, Any]:
    assert chosen.record is not None
    return as_json(chosen.record)


def test_folds_share_no_participant_and_hold_everybody_once(study: Study, tmp_path: Path) -> None:
    train = train_source(study, tmp_path).table(FeatureChoice())
    folds = make_folds(train, seed=0)
    assert len(folds) == FOLDS
    held = [fold.held.participant for fold in folds]
    check_no_leak({str(number): people.tolist() for number, people in enumerate(held)})
    assert sorted(np.concatenate(held)) == sorted(train.participant)
    for fold in folds:
        check_no_leak({"fit": fold.fit.raw.participant.tolist(), "held": fold.held.participant.tolist()})


def test_a_fold_is_standardised_by_its_own_training_part(study: Study, tmp_path: Path) -> None:
    for fold in make_folds(train_source(study, tmp_path).table(FeatureChoice()), seed=0):
        for protocol in np.unique(fold.fit.rows.protocol):
            rows = fold.fit.rows.x[fold.fit.rows.protocol == protocol]
            np.testing.assert_allclose(rows.mean(axis=0), np.zeros(CHANNELS), atol=1e-4)


def test_the_grid_is_tried_and_the_best_taken(study: Study, tmp_path: Path) -> None:
    chosen = choose(train_source(study, tmp_path), tmp_path)
    record = record_of(chosen)
    assert record["trials"] == len(GRIDS["linear"])
    assert record["best"]["value"] == max(tried["value"] for tried in record["history"]) > 0.8
    assert chosen.spec.parameters == record["best"]["parameters"]
    assert chosen.spec.features == FeatureChoice("last", ("mean",))
    assert chosen.spec.aggregation == "mean-logits"
    assert not (tmp_path / STUDIES).exists()


def test_a_head_without_a_grid_keeps_its_defaults(study: Study, tmp_path: Path) -> None:
    chosen = choose(train_source(study, tmp_path), tmp_path, "lgbm")
    assert (dict(chosen.spec.parameters), chosen.record) == ({}, None)
    for plan in (SearchPlan("dummy", trials=3), SearchPlan("dummy", minutes=1.0)):
        with pytest.raises(UsageError, match="dummy has no parameters"):
            check_plan(plan)
    with pytest.raises(UsageError, match="expected one of local, ray"):
        check_plan(SearchPlan("linear", engine="slurm"))


@pytest.mark.parametrize("model", ["lgbm", "mlp"])
def test_trials_stay_in_their_space_and_begin_with_the_defaults(tmp_path: Path, model: str) -> None:
    train = train_source(make_study(32, effect=2.0), tmp_path)
    space = {**SPACES[model], **({"ordered": Among((False, True))} if model == "lgbm" else {})}
    record = record_of(choose(train, tmp_path, model, trials=3, seed=7, folds=2))
    for tried in record["history"]:
        assert set(tried["parameters"]) == set(space)
        assert all(is_inside(tried["parameters"][name], one) for name, one in space.items())
    first, second, _ = record["history"]
    own = HEADS[model]().get_params()
    assert first["parameters"] == {name: own[name] for name in space}
    assert (second["parameters"] == {**first["parameters"], "ordered": True}) == (model == "lgbm")
    assert first["aggregation"] == "mean-logits"
    assert first["features"] == {"layer": "last", "pools": ["mean"]}


def test_what_a_protocol_weighs_is_not_searched_where_there_is_one(tmp_path: Path) -> None:
    train = train_source(make_study(96), tmp_path)
    alike = replace(train.cohort, table=train.cohort.table.assign(protocol="one"))
    record = record_of(choose(replace(train, cohort=alike), tmp_path, trials=1, folds=2))
    assert record["space"]["aggregations"] == ["mean-logits", "mean-features"]


def test_features_and_aggregation_are_searched_and_the_informative_layer_is_found(tmp_path: Path) -> None:
    """Layer 1 holds zeros in this study, and its mean pool nothing else: only last can be right."""
    chosen = choose(train_source(make_study(96, effect=2.0), tmp_path), tmp_path, trials=12, folds=2)
    record = record_of(chosen)
    tried = {(line["features"]["layer"], tuple(line["features"]["pools"])) for line in record["history"]}
    assert len(tried) > 3
    assert len({line["aggregation"] for line in record["history"]}) > 1
    assert set(record["space"]["aggregations"]) == set(AGGREGATIONS)
    assert record["space"]["pools"] == ["mean", "max", "mean,max"]
    assert chosen.spec.features.layer == "last"


def test_a_small_class_leaves_out_what_learns_from_folds_inside_folds(tmp_path: Path) -> None:
    record = record_of(choose(train_source(make_study(64), tmp_path), tmp_path, trials=2))
    assert not set(record["space"]["aggregations"]) & set(LEARNED)


@pytest.mark.parametrize(("lacking", "sketch"), [(0, {"networks": 2}), (1, {})])
def test_many_volumes_are_searched_by_sketches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: int, sketch: dict[str, int]
) -> None:
    train = train_source(make_study(96), tmp_path)
    asked: list[dict[str, object]] = []

    def watch(spec: ModelSpec, folds: list[Fold], *, classes: int, seed: int) -> list[dict[str, Predictions]]:
        asked.append(dict(spec.parameters))
        return predict_out_of_fold(spec, folds, classes=classes, seed=seed)

    monkeypatch.setattr("classify.search.spaces.SKETCHED_FROM", len(train.cohort.table) + lacking)
    monkeypatch.setattr("classify.search.scoring.predict_out_of_fold", watch)
    chosen = choose(train, tmp_path, model="mlp", trials=1, folds=2)
    assert [{name: one[name] for name in one if name == "networks"} for one in asked] == [sketch] * 2
    assert record_of(chosen)["space"].get("sketch", {}) == sketch
    assert "networks" not in chosen.spec.parameters


def test_the_same_seed_gives_the_same_trials_with_one_worker_or_two(tmp_path: Path) -> None:
    train = train_source(make_study(96, effect=0.7), tmp_path)
    asked: dict[str, Any] = {"trials": STARTUP_TRIALS + 2, "folds": 2}
    one, again, two = (
        record_of(choose(train, tmp_path / name, seed=3, jobs=jobs, **asked))
        for name, jobs in (("one", 1), ("again", 1), ("two", 2))
    )
    assert one == again == two
    assert len({line["aggregation"] for line in one["history"]}) == len(AGGREGATIONS)
    assert one["history"] != record_of(choose(train, tmp_path / "other", seed=4, **asked))["history"]


def test_a_study_that_was_cut_off_goes_on_as_if_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = train_source(make_study(96, effect=0.7), tmp_path)
    asked: dict[str, Any] = {"trials": STARTUP_TRIALS + 4, "seed": 3, "folds": 2}
    whole = record_of(choose(train, tmp_path / "whole", **asked))
    predict, calls = FoldScorer.predict, iter(range(2 * STARTUP_TRIALS + 5))

    def cut_off(scorer: FoldScorer, *spec: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return predict(scorer, *spec)

    with monkeypatch.context() as cutting:
        cutting.setattr(FoldScorer, "predict", cut_off)
        with pytest.raises(KeyboardInterrupt):
            choose(train, tmp_path / "cut", **asked)
    said: list[str] = []
    resumed = record_of(choose(train, tmp_path / "cut", said=said, **asked))
    assert resumed["resumed_at"] > STARTUP_TRIALS
    assert said == [f"study {resumed['study']}: resumed at trial {resumed['resumed_at']} of {asked['trials']}"]
    assert resumed["history"] == whole["history"]
    longer = record_of(choose(train, tmp_path / "cut", **(asked | {"trials": asked["trials"] + 1})))
    assert longer["history"][:-1] == whole["history"]


def test_a_round_of_trials_that_was_cut_in_two_is_the_round_that_ran_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = train_source(make_study(320, effect=1.0), tmp_path)
    asked: dict[str, Any] = {"model": "knn", "pool": "mean", "folds": 4}
    whole = record_of(choose(train, tmp_path / "whole", trials=6 * TOGETHER, **asked))
    rivals: list[int] = []

    def judge(scores: Sequence[float], people: int, earlier: Sequence[Tried]) -> bool:
        rivals.append(len(earlier))
        return falls_behind(scores, people, earlier)

    monkeypatch.setattr("classify.search.trials.falls_behind", judge)
    for trials in range(1, 6 * TOGETHER + 1):
        cut = record_of(choose(train, tmp_path / "cut", trials=trials, **asked))
    assert cut["history"] == whole["history"]
    assert whole["pruned"]
    assert set(rivals) == set(range(0, 6 * TOGETHER, TOGETHER)), "whole rounds alone"


def test_other_vectors_labels_or_seeds_are_another_study(tmp_path: Path) -> None:
    train = train_source(make_study(32, effect=2.0), tmp_path)
    table = train.cohort.table.assign(label=train.cohort.table["label"].to_numpy()[::-1])
    others = (
        replace(train, pooled=train.pooled + np.float32(1)),
        replace(train, cohort=replace(train.cohort, table=table)),
    )
    named = {record_of(choose(source, tmp_path, trials=1, folds=2))["study"] for source in (train, *others)}
    named.add(record_of(choose(train, tmp_path, trials=1, folds=2, seed=1))["study"])
    assert len(named) == 4
    assert {path.name for path in (tmp_path / STUDIES).iterdir()} == named


def test_two_searches_cannot_share_a_study(tmp_path: Path) -> None:
    refused = pytest.raises(
        UsageError, match=rf"another process is searching in it \(process {os.getpid()} on .+\); wait"
    )
    with hold_study(tmp_path / "x"), refused, hold_study(tmp_path / "x"):
        pass


def test_hopeless_trials_are_stopped_early_and_recorded_so(tmp_path: Path) -> None:
    """The folds that a stopped trial saw are the fewest that hold JUDGED_BY participants."""
    train = train_source(make_study(320, effect=1.0), tmp_path)
    people = train.cohort.table["participant"].nunique()
    asked = {"model": "knn", "pool": "mean", "aggregate": "mean-logits"}
    record = record_of(choose(train, tmp_path, trials=STARTUP_TRIALS + 10, folds=4, **asked))
    pruned = [line for line in record["history"] if line["state"] == "pruned"]
    assert record["pruned"] == len(pruned) > 0
    assert {line["value"] for line in pruned} == {None}
    assert min(len(line["after_folds"]) for line in pruned) == ceil(4 * JUDGED_BY / people)
    assert all(line["state"] == "complete" for line in record["history"][:FIRST_JUDGED])
    best = max(line["value"] for line in record["history"] if line["value"] is not None)
    assert record["best"]["value"] == best


def test_folds_that_many_workers_are_asked_for_in_advance_change_nothing(tmp_path: Path) -> None:
    scorer = FoldScorer(train_source(make_study(320, effect=1.0), tmp_path), classes=4, seed=0, folds=4)
    space = SearchSpace("knn", SPACES["knn"], ("last",), ("mean",), ("mean-logits",))
    found, asked = [], []
    for workers in (1, 2, 12):
        asked.append(0)
        (tmp_path / str(workers)).mkdir()

        def ask(spec: ModelSpec, number: int) -> Callable[[], Predictions]:
            asked[-1] += 1
            return lambda: scorer.predict(spec, number)

        study = OptunaStudy(tmp_path / str(workers) / "journal", "search", drawing_of(space, 0))
        found.append(run_trials(study, space, FoldWorkers(4, workers, ask), TrialBudget(20)))
    assert found[0] == found[1] == found[2]
    assert asked[0] < asked[1] < asked[2]
    assert asked[0] == sum(len(one.after_folds) for one in found[0][0])


def test_a_trial_knows_of_no_other_of_its_round(tmp_path: Path) -> None:
    space = SearchSpace("knn", SPACES["knn"], ("last",), ("mean",), ("mean-logits",))
    suggested = []
    for name, told in (("told", True), ("untold", False)):
        (tmp_path / name).mkdir()
        study = OptunaStudy(tmp_path / name / "journal", "search", drawing_of(space, 0))
        for number in range(3 * TOGETHER):
            study.end(study.ask(number), float(number))
        first = study.ask(3 * TOGETHER)
        if told:
            study.end(first, 100.0)
        suggested.append(study.ask(3 * TOGETHER + 1).params)
    assert suggested[0] == suggested[1]


def tried(value: float, after_folds: tuple[float, ...], *, whole: bool = True) -> Tried:
    return Tried({}, "last", "mean", "mean-logits", value if whole else None, after_folds)


def test_a_trial_falls_behind_below_the_best_quarter_after_as_many_folds() -> None:
    scores = [0.1 * number for number in range(10)]
    earlier = [tried(score, (score,) * (1 + (score > 0.45)), whole=score == 0.5) for score in scores]
    assert falls_behind([0.6], JUDGED_BY, earlier)
    assert not falls_behind([0.7], JUDGED_BY, earlier)
    assert falls_behind([0.9, 0.6], JUDGED_BY, earlier), "its last score counts, not its best"
    assert not falls_behind([0.0], JUDGED_BY, earlier[: FIRST_JUDGED - 1]), (
        "nothing is stopped before there is something to compare with"
    )
    assert not falls_behind([0.0], JUDGED_BY - 1, earlier), "so few participants rank trials by accident"


@pytest.mark.parametrize("people", [JUDGED_BY, 4 * JUDGED_BY])
def test_a_trial_falls_behind_the_best_by_more_than_chance_explains(people: int) -> None:
    margin = BEHIND / people**0.5
    earlier = [tried(0.5, (0.5, 0.5)), tried(0.8, (0.7, 0.8)), *[tried(0.1, (0.1,), whole=False)] * 20]
    assert not falls_behind([0.7 - 0.9 * margin], people, earlier)
    assert falls_behind([0.7 - 1.1 * margin], people, earlier)
    assert falls_behind([0.9, 0.8 - 1.1 * margin], people, earlier)


@pytest.mark.parametrize(("minutes", "rounds"), [(3.0, 2), (0.0, 1)])
def test_minutes_end_a_search_and_one_round_is_always_made(tmp_path: Path, minutes: float, rounds: int) -> None:
    """The clock jumps a minute whenever it is read: once at the start, once before each round."""
    scorer = FoldScorer(train_source(make_study(32, effect=2.0), tmp_path), classes=4, seed=0, folds=2)
    space = SearchSpace("knn", SPACES["knn"], ("last",), ("mean",), ("mean-logits",))
    ticks = count(0.0, 60.0)
    with open_folds(scorer, 1) as workers:
        opened = OptunaStudy(tmp_path / "journal", "search", drawing_of(space, 0))
        tried, why = run_trials(opened, space, workers, TrialBudget(0, minutes, lambda: next(ticks)))
    assert (len(tried), why) == (rounds * TOGETHER, "minutes")


@pytest.mark.parametrize(("asked", "folds", "said"), [(None, 3, True), (3, 3, False), (2, 2, False)])
def test_a_small_class_makes_fewer_folds_and_says_so(asked: int | None, folds: int, said: bool) -> None:
    label = np.array([0] * 9 + [1] * 3)
    people = np.array([f"p{number:02d}" for number in range(12)])
    found, sentence = count_folds(people, label, ("healthy", "insulin"), asked)
    assert found == folds
    assert (sentence is not None) is said
    if sentence:
        assert sentence == "folds: 3 in place of 5, because train has 3 participants of insulin"


def test_more_folds_than_participants_of_a_class_are_refused() -> None:
    people = np.array([f"p{number:02d}" for number in range(12)])
    with pytest.raises(UsageError, match=r"--folds 5: .* 3 participants of insulin; give --folds 3 or fewer"):
        count_folds(people, np.array([0] * 9 + [1] * 3), ("healthy", "insulin"), 5)
    with pytest.raises(CohortError, match="insulin has one participant"):
        count_folds(people, np.array([0] * 11 + [1]), ("healthy", "insulin"), None)
