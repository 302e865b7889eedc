"""The search on Ray: a clear word where Ray is missing, and the same trials twice where it is there."""

import sys
from pathlib import Path

import pytest
from classify_study import make_study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import TASKS
from classify.fitting.source import FeatureSource
from classify.search.ray_engine import import_ray, score_folds, search_with_ray
from classify.search.scoring import FoldScorer
from classify.search.search import SearchPlan, check_plan, choose_model
from classify.search.spaces import SPACES, SearchSpace
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
    with pytest.raises(UsageError, match=r"install octprobe\[ray\], or use --engine local"):
        import_ray()
    plan = SearchPlan("linear", trials=2, engine="ray", folds=2)
    with pytest.raises(UsageError, match=r"install octprobe\[ray\]"):
        choose_model(plan, scorer(tmp_path).source, runs=tmp_path, facts={}, tell=lambda _: None)
    with pytest.raises(UsageError, match="expected --trials"):
        check_plan(SearchPlan("linear", minutes=1.0, engine="ray"))


def test_a_choice_is_scored_as_the_local_engine_scores_it(tmp_path: Path) -> None:
    found = scorer(tmp_path)
    plan = SearchPlan("linear", layer="last", pool="mean", aggregate="mean-logits", trials=1, folds=2)
    local = choose_model(plan, found.source, runs=tmp_path, facts={}, tell=lambda _: None)
    assert local.record is not None
    (tried,) = local.record["history"]
    assert list(score_folds(found, SPACE, tried["parameters"] | {"layer": "last"})) == tried["after_folds"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own making
def test_trials_one_at_a_time_repeat_per_seed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs octprobe[ray]")
    said: list[str] = []
    one, two = (
        search_with_ray(scorer(tmp_path), SPACE, trials=3, seed=1, address=None, tell=said.append, at_once=1)
        for _ in range(2)
    )
    assert one == two
    assert len(one) == 3
    assert one[0].parameters == {"C": 0.01}
    assert all(tried.value == tried.after_folds[-1] for tried in one)
    assert said == ["ray: 3 trials, 1 at a time"] * 2
