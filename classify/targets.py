"""Several targets in one command: ``classify probe --target dr,dme,amd`` makes a run of each, and one table of all.

What a person has of several things is asked one by one, each against the rest. Reads from top to bottom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

from classify.baselines.covariates import is_rival
from classify.comparing.target_folder import AbsentTarget, TargetLine, TargetsRecord, save_targets
from classify.errors import CohortError
from classify.features.stores import ReadStore, reader_at
from classify.judging.bootstrap import draw_replicates, replicate_headline, why_too_few
from classify.judging.holm import adjust_holm
from classify.judging.kinds import sign_of
from classify.judging.rivals import hardest_rival
from classify.options import ProbeOptions
from classify.probe import probe
from classify.run.estimate import Estimate
from classify.run.folder import Run, load_run
from classify.run.predictions import Predictions, pick_predictions
from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import say

VAL = "val"
COMPARISONS = ("chance", "baselines")
"""What each target is compared with: labels that say nothing, and the hardest of all baselines."""


@dataclass(frozen=True)
class Targets:
    """The saved table: its record and its folder."""

    record: TargetsRecord
    folder: Path


def split_targets(target: str | None) -> tuple[str, ...]:
    """Return the targets of --target; () where one or none is asked for. Raises: UsageError."""
    if target is None or "," not in target:
        return ()
    names = tuple(part.strip() for part in target.split(","))
    if "" in names or len(set(names)) < len(names):
        raise UsageError(f"--target: expected different names of columns with commas between, got {target!r}")
    return names


def probe_targets(
    options: ProbeOptions,
    *,
    clock: Callable[[], datetime] | None = None,
    read: ReadStore | None = None,
    tell: Callable[[str], None] = say,
) -> Targets:
    """Make a run of each target, and save one table of all. A target that cannot be used is absent, with its reason.

    Raises: the error of the first target where none could be made; StoreError, RunFolderError.
    """
    names, clock = split_targets(options.target), clock or (lambda: datetime.now(UTC))
    read = cache(read or reader_at(options.endpoint_url))
    runs: dict[str, Run] = {}
    absent: dict[str, CohortError | UsageError] = {}
    for number, name in enumerate(names, 1):
        tell(f"[{number}/{len(names)}] {name}")
        try:
            runs[name] = load_run(probe(replace(options, target=name), now=clock(), read=read, tell=tell).folder)
        except (CohortError, UsageError) as error:
            tell(f"[{number}/{len(names)}] {name}: absent: {error}")
            absent[name] = error
    if not runs:
        raise next(iter(absent.values()))
    now = clock()
    record = TargetsRecord(
        created=now.isoformat(timespec="seconds"),
        command=list(options.command),
        model=options.model,
        split=VAL,
        replicates=options.replicates,
        seed=options.seed,
        phantom=any(run.record.asked.phantom for run in runs.values()),
        encoder_source=next(iter(runs.values())).record.asked.encoder_source,
        absent=[AbsentTarget(name, str(error)) for name, error in absent.items()],
        targets=compare_targets(runs, replicates=options.replicates, seed=options.seed),
    )
    folder = save_targets(options.runs, record, now)
    return Targets(replace(record, id=folder.name), folder)


def compare_targets(runs: dict[str, Run], *, replicates: int, seed: int) -> list[TargetLine]:
    """Give one line a target: sizes, metrics, and p-values against chance and the baselines, with Holm's adjusted ones.

    p-values are one-sided. Against the baselines: that of the hardest one, so "better" means better than each of them.
    """
    lines = [_line(name, run, replicates=replicates, seed=seed) for name, run in runs.items()]
    for against in COMPARISONS:
        for metric in dict.fromkeys(metric for line in lines for metric in line.p[against]):
            told = {line.target: line.p[against] for line in lines if metric in line.p[against]}
            known = {name: p for name, of in told.items() if (p := of[metric].value) is not None}
            for name, adjusted in adjust_holm(known).items():
                told[name][metric] = replace(told[name][metric], holm=adjusted, of=len(known))
    return lines


def _line(name: str, run: Run, *, replicates: int, seed: int) -> TargetLine:
    record, frame = run.record, run.predictions
    level = next(reversed(record.judged.metrics))
    metrics, chance = record.judged.metrics[level][VAL], record.judged.permutation[VAL]["p_values"]
    people = pick_predictions(frame, model=record.fitted.model, level=level, split=VAL)
    differences = record.judged.difference_to_baselines
    rivals = [pick_predictions(frame, model=one, level=level, split=VAL) for one in differences if is_rival(one)]
    return TargetLine(
        target=name,
        run=record.id,
        kind=record.asked.task_definition.get("kind"),
        classes=record.asked.classes,
        level=level,
        val=record.cohort.splits[VAL],
        metrics={metric: metrics[metric] for metric in chance},
        hardest_baseline={metric: hardest_rival(differences, metric) for metric in chance},
        difference_to_baselines=differences,
        p={
            "chance": dict(chance),
            "baselines": _p_of_rivals(people, rivals, record.asked.classes, list(chance), replicates, seed),
        },
    )


def _p_of_rivals(
    people: Predictions,
    rivals: Sequence[Predictions],
    classes: Sequence[str],
    metrics: Sequence[str],
    replicates: int,
    seed: int,
) -> dict[str, Estimate]:
    """Give, for each metric, the largest share of paired draws in which a baseline is as good or better."""
    why = "no baseline could be made" if not rivals else why_too_few(people, classes)
    if why:
        return {metric: Estimate(absent=why) for metric in metrics}
    drawn = draw_replicates(people.participant, replicates=replicates, seed=seed)
    ours = replicate_headline(people, drawn, classes)
    theirs = [replicate_headline(rival, drawn, classes) for rival in rivals]
    found: dict[str, Estimate] = {}
    for metric in metrics:
        apart = np.stack([sign_of(metric) * (ours[metric] - one[metric]) for one in theirs])
        if not np.isfinite(apart[:, 0]).all():
            found[metric] = Estimate(absent="undefined for these units")
            continue
        worse = (~(apart[:, 1:] > 0)).sum(axis=1)
        found[metric] = Estimate(float((1 + worse.max()) / apart.shape[1]))
    return found
