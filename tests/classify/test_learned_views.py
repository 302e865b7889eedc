"""Augmented views are more to learn from: they act on the fit of a head, and on nothing that is judged."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from classify_study import Study, make_study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import TASKS
from classify.features.table import FeatureTable, make_features
from classify.fitting.model import load_model
from classify.heads.linear import LinearHead
from classify.heads.mil import MilHead
from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.folder import load_run
from classify.search.folds import TrainingPart
from embeddings_store.errors import UsageError
from embeddings_store.space import VIEW, EmbeddingSpace

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


def with_views(study: Study, views: np.ndarray) -> Study:
    """Store views [K, rows, L, P, C] beside the volumes."""
    space = study.stored.space
    pools = [*space.pools, *(f"{pool}{VIEW}{number}" for number in range(1, len(views) + 1) for pool in space.pools)]
    described = {"count": len(views), "seed": 0, "recipe": {}}
    stored = replace(
        study.stored,
        pooled=np.concatenate([study.stored.pooled, *views], axis=2).astype(np.float32),
        space=replace(space, pools=tuple(pools), views=described),
        pools=tuple(pools),
    )
    return Study(study.people, stored)


def jittered(study: Study, count: int) -> Study:
    rng = np.random.default_rng(0)
    shape = (count, *study.stored.pooled.shape)
    return with_views(study, study.stored.pooled + 0.5 * rng.standard_normal(shape).astype(np.float32))


def run(study: Study, folder: Path, model: str = "linear", **asked: int | None) -> Probed:
    folder.mkdir(exist_ok=True)
    options = ProbeOptions(
        store="store", model=model, participants=study.write(folder), replicates=50, runs=folder / "runs"
    )
    return probe(replace(options, **asked), now=NOW, read=lambda *_: study.stored)


def table_of(study: Study, folder: Path, views: int) -> FeatureTable:
    people = read_participants(study.write(folder))
    cohort = join_cohort(study.stored.index, study.stored.pooled, people, TASKS["four-class"])
    return make_features(cohort, study.stored.pooled, study.stored.space, layer="last", pools=("mean",), views=views)


def test_a_space_tells_pools_from_views(study: Study) -> None:
    plain, rich = study.stored.space, jittered(study, 2).stored.space
    assert (plain.view_count, rich.view_count) == (0, 2)
    assert rich.plain_pools == plain.pools == plain.plain_pools
    assert rich.id != plain.id
    assert EmbeddingSpace.from_dict(rich.to_dict()) == rich
    assert "views" not in plain.to_dict(), "the ids of spaces without views stay what they were"


def test_views_are_rows_to_fit_on_and_weigh_what_their_volume_weighs(study: Study, tmp_path: Path) -> None:
    rich = jittered(study, 2)
    table = table_of(rich, tmp_path, 2)
    part, plain = TrainingPart(table, 0), TrainingPart(replace(table, views=None), 0)
    for of_people in (False, True):
        seen, alone = (one.rows_for(LinearHead, of_people=of_people) for one in (part, plain))
        assert len(seen.x) == 3 * len(alone.x)
        assert np.array_equal(seen.x[: len(alone.x)], alone.x)
        assert seen.weights.sum() == pytest.approx(alone.weights.sum())
        assert seen.y.tolist() == 3 * alone.y.tolist()
        assert seen.groups.tolist() == 3 * alone.groups.tolist()
    assert len(part.rows_for(MilHead, of_people=False).x) == len(table.x), "a view is no scan of its own"


def test_views_that_are_copies_change_no_probability(study: Study, tmp_path: Path) -> None:
    """The weighted likelihood of three equal rows of a third each is that of one."""
    copies = with_views(study, np.stack([study.stored.pooled] * 2))
    seen, alone = run(copies, tmp_path / "a"), run(study, tmp_path / "b")
    assert seen.record.fitted.features["views"] == 2
    before, after = (load_run(done.folder).predictions.filter(like="probability") for done in (alone, seen))
    assert np.allclose(before, after, atol=2e-3)


def test_views_act_on_the_head_and_not_on_what_is_judged(study: Study, tmp_path: Path) -> None:
    rich = jittered(study, 2)
    none, one, every = (run(rich, tmp_path / str(views), views=views) for views in (0, 1, None))
    assert [done.record.fitted.features["views"] for done in (none, one, every)] == [0, 1, 2]
    plain = run(study, tmp_path / "plain")
    assert none.record.judged.metrics == plain.record.judged.metrics
    heads = [load_model(load_run(done.folder)).head.coef_ for done in (none, one, every)]
    assert not np.allclose(heads[0], heads[1])
    assert not np.allclose(heads[1], heads[2])
    assert {size["volumes"] for size in every.record.cohort.splits.values()} == {
        size["volumes"] for size in plain.record.cohort.splits.values()
    }


def test_views_that_are_not_there_are_one_message(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--views 3: the store holds 2 augmented views"):
        run(jittered(study, 2), tmp_path, views=3)
    with pytest.raises(UsageError, match=r"--views 1: .* no augmented views"):
        run(study, tmp_path, views=1)


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(64, effect=1.0)
