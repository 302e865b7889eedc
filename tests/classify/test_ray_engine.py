"""The search on Ray: a clear word where Ray is missing, and the same trials twice where it is there."""

import sys
from pathlib import Path

import pytest
from classify_study import make_study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import TASKS
from classify.fitting.source import FeatureSource
from classify.search.ray_engine import TuneCluster, import_ray, search_with_ray
from classify.search.scoring import FoldScorer
from classify.search.search import SearchPlan, check_plan, choose_model, score_folds, score_on_ray
from classify.search.spaces import SPACES, SearchSpace
from classify.search.study import open_study
from classify.search.trials import drawing_of, tried_in
from embeddings_store.errors import UsageError

SPACE = SearchSpace("linear", SPACES["linear"], ("last", "1"), ("mean",), ("mean-logits",))


def scorer(folder: Path) -> FoldScorer:
    study = make_study(32, effect=2.0)
    stored = study.stored
    cohort = join_cohort(stored.index, stored.pooled, read_participants(study.write(folder)), TASKS["four-class"])
    source = FeatureSource(cohort, stored.pooled, stored.space).only("train")
    return FoldScorer(source, classes=4, seed=0, folds=2)


def test_a_missing_ray_is_one_message_that_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UsageError, match=r"instead of --engine local: ray is not installed: pip install 'octprobe\[ray\]'"
    ):
        import_ray()
    plan = SearchPlan("linear", trials=2, engine="ray", folds=2)
    with pytest.raises(UsageError, match=r"pip install 'octprobe\[ray\]'"):
        choose_model(plan, scorer(tmp_path).source, runs=tmp_path, facts={}, tell=lambda _: None)
    with pytest.raises(UsageError, match="expected --trials"):
        check_plan(SearchPlan("linear", minutes=1.0, engine="ray"))


def test_a_choice_is_scored_as_the_local_engine_scores_it(tmp_path: Path) -> None:
    found = scorer(tmp_path)
    plan = SearchPlan("linear", layer="last", pool="mean", aggregate="mean-logits", trials=1, folds=2)
    local = choose_model(plan, found.source, runs=tmp_path, facts={}, tell=lambda _: None)
    assert local.record is not None
    (tried,) = local.record.history
    assert list(score_folds(found, SPACE, tried.parameters | {"layer": "last"})) == tried.after_folds


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own making
def test_trials_one_at_a_time_are_those_of_the_local_engine_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs octprobe[ray]")
    said: list[str] = []
    found = scorer(tmp_path)
    local = choose_model(
        SearchPlan("linear", pool="mean", aggregate="mean-logits", trials=3, folds=2), found.source,
        runs=tmp_path, facts={}, tell=said.append,
    )  # fmt: skip
    for trials in (2, 3, 3):
        with open_study(tmp_path / "ray" / "journal", "search", drawing_of(SPACE, 0), said.append) as study:
            search_with_ray(study, score_on_ray, (found, SPACE), TuneCluster(None, 1), trials=trials, tell=said.append)
            tried = tried_in(study, SPACE)
    assert local.record is not None
    assert [one.describe() for one in tried] == local.record.history
    assert said == ["ray: 2 trials, 1 at a time", "ray: 1 trials, 1 at a time"]
