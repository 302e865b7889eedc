"""Choose a model by participant-grouped, stratified folds inside train; val and test are never seen."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from classify.features.table import unit_weights
from classify.fitting.model import ModelSpec, fit_grid
from classify.fitting.source import FeatureSource
from classify.judging.bootstrap import draw_replicates, replicate_headline
from classify.judging.kinds import measures_of
from classify.on_cores import one_thread
from classify.run.predictions import Predictions, join_predictions, judged_of, unit_loss
from classify.search.among import compare_rivals
from classify.search.folds import smallest_class
from classify.search.ray_engine import Report, TuneCluster, import_ray, search_with_ray
from classify.search.scoring import FoldScorer, running_score
from classify.search.spaces import AUTO, GRIDS, SearchSpace, make_space
from classify.search.study import Study, open_study
from classify.search.trials import SearchRecord, TrialBudget, Tried, best_of, drawing_of, run_trials, tried_in
from classify.search.workers import open_folds
from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.publish import published

ENGINES = ("local", "ray")
STUDIES = "studies"
JOURNAL = "search.journal"
FACTS = "study.json"
ERROR_REPLICATES = 200
"""Of the standard error of a difference between two candidates: known to 5 %."""

STRENGTH = "C"
"""The parameter that shrinks a linear head's logits."""


@dataclass(frozen=True)
class SearchPlan:
    """What the command line asked of the search. layer, pool, aggregate: auto, or a name (pools with commas).

    trials, minutes: the budget, whichever ends first; without both nothing is searched but a small grid.
    views: augmented views of each volume to learn from. folds: how many, each with every class.
    jobs: processes, one thread each. rivals: of model auto, the plan of each head that may be chosen.
    """

    model: str
    layer: str = AUTO
    pool: str = AUTO
    aggregate: str = AUTO
    trials: int = 0
    minutes: float | None = None
    folds: int = 5
    jobs: int = 1
    engine: str = "local"
    ray_address: str | None = None
    seed: int = 0
    token_grid: Grid | None = None
    device: str = "cpu"
    views: int = 0
    rivals: tuple["SearchPlan", ...] = ()

    @property
    def searched(self) -> bool:
        """True where a budget was given."""
        return bool(self.trials or self.minutes)


@dataclass(frozen=True)
class Chosen:
    """The spec that did best inside train, and what was tried (None: there was nothing to choose)."""

    spec: ModelSpec
    record: SearchRecord | None = None


def check_plan(plan: SearchPlan) -> None:
    """Refuse what cannot be searched, before anything is read. Raises: UsageError."""
    if plan.engine not in ENGINES:
        raise UsageError(f"--engine: expected one of {', '.join(ENGINES)}, got {plan.engine!r}")
    if plan.searched and plan.model == "dummy":
        raise UsageError(f"--trials {plan.trials}: dummy has no parameters to search; leave --trials out")
    if plan.engine == "ray" and not plan.trials:
        raise UsageError("--engine ray: expected --trials with it; a cluster needs to know how many")
    if plan.engine == "ray":
        import_ray()


def choose_model(
    plan: SearchPlan,
    train: FeatureSource,
    *,
    runs: Path,
    facts: Mapping[str, Any],
    tell: Callable[[str], None],
) -> Chosen:
    """Choose head parameters, features and aggregation on the participants of ``train`` alone.

    runs: where the folder of studies lies. facts: what else names the study (task, versions). tell: says what is
    worth knowing, such as that a study goes on. Raises: UsageError, CohortError, RunFolderError.
    """
    if plan.rivals:
        return _choose_among(plan, train, runs=runs, facts=facts, tell=tell)
    classes, metric = len(train.cohort.task.classes), measures_of(train.cohort.task.classes).searched_by
    space = _space_of(plan, train)
    scorer = FoldScorer(train, classes=classes, seed=plan.seed, folds=plan.folds)
    if not plan.searched:
        return _try_grid(plan, space, scorer, metric)
    named = {**study_facts(plan, train, space), **facts}
    folder = study_folder(runs, named)
    with open_study(folder / JOURNAL, "search", drawing_of(space, plan.seed), tell) as study:
        with published(folder / FACTS) as aside:
            aside.write_text(json.dumps(named, indent=2, sort_keys=True))
        resumed = len(study.finished())
        if resumed:
            tell(f"study {folder.name}: resumed at trial {resumed}{f' of {plan.trials}' if plan.trials else ''}")
        tried, stopped_by = _search(plan, study, space, scorer, tell)
    best, taken = best_of(tried), None
    if STRENGTH in best.parameters:
        best, taken = _sharpen(plan, space, scorer, best), _taken_by(classes)
    return _chosen(
        plan, space, tried, best, engine=plan.engine, stopped_by=stopped_by, resumed_at=resumed, study=folder.name,
        taken=taken, metric=metric,
    )  # fmt: skip


def _choose_among(
    plan: SearchPlan,
    train: FeatureSource,
    *,
    runs: Path,
    facts: Mapping[str, Any],
    tell: Callable[[str], None],
) -> Chosen:
    """Choose for each head, then the head whose choice did best on the same folds, and say what choosing costs."""
    classes = train.cohort.task.classes
    scorer = FoldScorer(train, classes=len(classes), seed=plan.seed, folds=plan.folds)
    rivals = [replace(one, folds=plan.folds, views=min(one.views, plan.views)) for one in plan.rivals]
    chosen, held_out = [], []
    for rival in rivals:
        found = choose_model(rival, train, runs=runs, facts=facts, tell=tell)
        with one_thread():
            held_out.append(join_predictions([scorer.predict(found.spec, fold) for fold in range(scorer.folds)]))
        said = f"{running_score(held_out[-1:]):.3f} {measures_of(classes).searched_by}"
        tell(f"auto: {rival.model} {said} on participants held out of train")
        chosen.append(found)
    best, among = compare_rivals([one.model for one in rivals], held_out, seed=plan.seed)
    taken = chosen[best]
    record = taken.record or _default_record(rivals[best], train, among["heads"][best]["value"])
    return Chosen(taken.spec, replace(record, among=among))


def _default_record(plan: SearchPlan, train: FeatureSource, value: float) -> SearchRecord:
    space, metric = _space_of(plan, train), measures_of(train.cohort.task.classes).searched_by
    tried = Tried({}, space.layers[0], space.pools[0], space.aggregations[0], value, ())
    return _describe(plan, space, [tried], tried, sampler="defaults", metric=metric)


def _search(
    plan: SearchPlan, study: Study, space: SearchSpace, scorer: FoldScorer, tell: Callable[[str], None]
) -> tuple[list[Tried], str]:
    """Spend the budget by the engine of the plan; return all finished trials of the study, and what ended it."""
    if plan.engine == "ray":
        search_with_ray(
            study, score_on_ray, (scorer, space), TuneCluster(plan.ray_address), trials=plan.trials, tell=tell
        )
        return tried_in(study, space), "trials"
    with open_folds(scorer, plan.jobs) as workers:
        return run_trials(study, space, workers, TrialBudget(plan.trials, plan.minutes))


def score_on_ray(shared: tuple[FoldScorer, SearchSpace], params: Mapping[str, Any], report: Report) -> None:
    """Score one choice on all folds in a worker of a cluster; nothing is pruned there."""
    scorer, space = shared
    scores = score_folds(scorer, space, params)
    report(dict(enumerate(scores)), len(scores) == scorer.folds)


def score_folds(scorer: FoldScorer, space: SearchSpace, params: Mapping[str, Any]) -> tuple[float, ...]:
    """Score one choice fold by fold; shorter than the number of folds where a head gave no numbers."""
    spec = space.trial(params)
    parts: list[Predictions] = []
    scores: list[float] = []
    with one_thread():
        for number in range(scorer.folds):
            parts.append(scorer.predict(spec, number))
            score = running_score(parts)
            if not isfinite(score):
                break
            scores.append(score)
    return tuple(scores)


def study_folder(runs: Path, facts: Mapping[str, Any]) -> Path:
    """Name the folder of a study by what its numbers depend on."""
    return runs / STUDIES / sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def keep_journal(runs: Path, chosen: Chosen, aside: Path) -> None:
    """Copy the journal of a search into a run folder."""
    if chosen.record and chosen.record.study:
        shutil.copyfile(runs / STUDIES / chosen.record.study / JOURNAL, aside / JOURNAL)


def study_facts(plan: SearchPlan, train: FeatureSource, space: SearchSpace) -> dict[str, Any]:
    """Give what a study's numbers depend on: participants and labels, vectors, space, folds and seed."""
    table = train.cohort.table[["volume", "participant", "eye", "protocol", "label"]]
    vectors = np.ascontiguousarray(train.pooled[train.cohort.position])
    return {
        "model": plan.model,
        "search_space": space.to_dict(),
        "folds": plan.folds,
        "seed": plan.seed,
        "embedding_space": train.space.id,
        "participants_sha256": sha256(table.to_csv(index=False).encode()).hexdigest(),
        "vectors_sha256": sha256(vectors.tobytes()).hexdigest(),
        **({"engine": plan.engine} if plan.engine != "local" else {}),  # a local study is pruned, and one of rounds
    }


def _space_of(plan: SearchPlan, train: FeatureSource) -> SearchSpace:
    people = train.cohort.table.drop_duplicates("participant")
    return make_space(
        plan.model,
        layer=plan.layer,
        pool=plan.pool,
        aggregate=plan.aggregate,
        layers=train.space.layers,
        pools=train.space.plain_pools,
        smallest_class=smallest_class(people["participant"].to_numpy(str), people["label"].to_numpy()),
        searched=plan.searched,
        token_grid=plan.token_grid,
        device=plan.device,
        views=plan.views,
        ordered=train.cohort.task.is_ordered,
        protocols=train.cohort.table["protocol"].nunique(),
        volumes=len(train.cohort.table),
    )


def _try_grid(plan: SearchPlan, space: SearchSpace, scorer: FoldScorer, metric: str) -> Chosen:
    """Try the grid of a head on the first of everything; a head without one keeps its defaults."""
    plain = space.first
    if plan.model not in GRIDS:
        return Chosen(plain)
    with one_thread():
        held_out = _predict_grid(plain, scorer, GRIDS[plan.model])
    values = [running_score([people]) for people in held_out]
    tried = [
        Tried(parameters, space.layers[0], space.pools[0], space.aggregations[0], value, ())
        for parameters, value in zip(GRIDS[plan.model], values, strict=True)
    ]
    best = tried[take_sharpest(held_out, values, seed=plan.seed)]
    return _chosen(plan, space, tried, best, sampler="grid", taken=_taken_by(scorer.classes), metric=metric)


def _taken_by(classes: int) -> str:
    return f"the smallest {'log-loss' if classes else 'squared error'} within one standard error of the best score"


def _sharpen(plan: SearchPlan, space: SearchSpace, scorer: FoldScorer, best: Tried) -> Tried:
    """Choose the strength anew on the features of the best trial, among its own and the grid, by take_sharpest.

    Trials are drawn and stopped by a ranking, which is flat towards no strength at all, so that those which ended say
    little about the strengths that rank as well and are less shrunk.
    """
    spec = space.spec(best.parameters, best.layer, best.pools, best.aggregation)
    strengths = [best.parameters[STRENGTH], *(one[STRENGTH] for one in GRIDS[plan.model])]
    with one_thread():
        held_out = _predict_grid(spec, scorer, [{**spec.parameters, STRENGTH: one} for one in strengths])
    values = [running_score([people]) for people in held_out]
    taken = take_sharpest(held_out, values, seed=plan.seed)
    if not taken:
        return best
    return replace(
        best, parameters={**best.parameters, STRENGTH: strengths[taken]}, value=values[taken], after_folds=()
    )


def take_sharpest(held_out: Sequence[Predictions], values: Sequence[float], *, seed: int) -> int:
    """Choose, of candidates within one standard error of the best score, the one with the smallest loss.

    The loss is that of probabilities, or the squared error of numbers.
    A ranking alone is blind to scale: a penalty that shrinks every logit to nothing may rank best by a hair. The
    standard error is that of the paired difference to the best, by a bootstrap of participants.
    """
    best = int(np.nanargmax(values))
    people = held_out[best]
    drawn = draw_replicates(people.participant, replicates=ERROR_REPLICATES, seed=seed)
    searched_by = measures_of(people.numbered).searched_by
    scores = [replicate_headline(one, drawn, people.numbered)[searched_by] for one in held_out]
    error = [np.nanstd(scores[best][1:] - one[1:]) for one in scores]
    near = [n for n, value in enumerate(values) if values[best] - value <= error[n] + 1e-12]
    weights = unit_weights(people.label, people.unit)
    losses = {n: unit_loss(held_out[n].scores, people) @ weights for n in near}
    return min(near, key=lambda n: losses[n])


def _predict_grid(plain: ModelSpec, scorer: FoldScorer, grid: list[dict[str, Any]]) -> list[Predictions]:
    """Predict the held-out participants of all folds by every candidate."""
    parts = [_predict_fold(plain, scorer, grid, number) for number in range(scorer.folds)]
    return [join_predictions([part[number] for part in parts]) for number in range(len(grid))]


def _predict_fold(plain: ModelSpec, scorer: FoldScorer, grid: list[dict[str, Any]], number: int) -> list[Predictions]:
    """Do it for one fold, whose vectors are then let go."""
    fold = scorer.fold_once(plain.features, number)
    (models,) = fit_grid(plain, [fold.fit], grid, classes=scorer.classes, seed=scorer.seed)
    return [judged_of(model.predict_standardised(fold.held, classes=scorer.classes, split="train")) for model in models]


def _chosen(plan: SearchPlan, space: SearchSpace, tried: list[Tried], best: Tried, **said: Any) -> Chosen:
    spec = space.spec(best.parameters, best.layer, best.pools, best.aggregation)
    return Chosen(spec, _describe(plan, space, tried, best, **said))


def _describe(plan: SearchPlan, space: SearchSpace, tried: list[Tried], best: Tried, **said: Any) -> SearchRecord:
    return SearchRecord(
        trials=len(tried),
        pruned=sum(one.value is None for one in tried),
        best=best.describe(),
        folds=plan.folds,
        space=space.to_dict(),
        history=[one.describe() for one in tried],
        **said,
    )
