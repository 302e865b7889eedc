"""The verb ``reports study``: one self-contained page over all runs of a task and cohort. Reads from top to bottom."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from classify.cohort.splitting import say_shared
from classify.fitting.source import rebuild_features
from classify.run.estimate import Estimate
from classify.run.ledger import COUNTED_HERE
from embeddings_store.errors import OctProbeError
from embeddings_store.reader import open_reader
from reports.checklist import make_checklist
from reports.coverage import StoreFacts, read_store_facts
from reports.cross_validated import crossed_alone, crossed_headline, crossed_tables, split_kinds
from reports.encoders import encoder_part
from reports.explanations import Explanation, FeaturesOf, explain_study
from reports.external import other_places
from reports.flow import StoreCounts, make_flow
from reports.flow_diagram import lay_out
from reports.headline import Headline, chance_of, make_headline
from reports.ledger import read_looks, say_looks, say_resplits
from reports.model_card import CARD, write_model_card
from reports.options import StudyOptions
from reports.page import publish, render
from reports.pictures import Picture
from reports.runs import FinishedRun, LeftOut, read_runs, say_left_out, select_runs
from reports.sections import detail_pictures, find_warnings, result_tables
from reports.shap_values import FILE, write_explanation
from reports.tables import class_table, splits_table, title_of, units_judged, used_row
from reports.training_pictures import picture_training
from reports.validity import comparison_tables, p_value_sentence, validity_tables
from reports.validity_pictures import map_embedding, picture_decision, picture_learning_curve, picture_map, present

PAGE = "study.html"


@dataclass(frozen=True, slots=True)
class StudyPage:
    """A published page and what it says."""

    page: Path
    runs: tuple[FinishedRun, ...]
    headline: Headline
    phantom: bool
    test_looks: int
    warnings: tuple[str, ...]
    explanation: Explanation
    left_out: tuple[LeftOut, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Give plain JSON types for ``--json``."""
        best = self.headline.run
        return {
            "page": str(self.page),
            "task": self.runs[0].record.asked.task,
            "runs": [run.id for run in self.runs],
            "runs_left_out": [one.to_record() for one in self.left_out],
            "phantom": self.phantom,
            **encoder_part(self.runs),
            "verdict": self.headline.verdict,
            "claim": self.headline.claim,
            "best_run": best.id if best else None,
            (best.primary if best else "balanced_accuracy"): _plain(best.estimate(best.level, "val", best.primary))
            if best
            else None,
            "difference_to_age_site": _plain(best.difference(best.primary)) if best else None,
            "test_looks": self.test_looks,
            "explanation_absent": self.explanation.absent,
            "warnings": list(self.warnings),
        }


def write_study(
    options: StudyOptions,
    *,
    facts: StoreFacts | None = None,
    features_of: FeaturesOf | None = None,
    now: datetime | None = None,
) -> StudyPage:
    """Read the runs, compute what the page says, draw it, and publish OUT/study.html.

    facts: of the store; features_of: rebuilds the features of a run from it. None: both from the options' store.
    Raises: UsageError for no runs or a mixture; RunError for a run or ledger that can't be read.
    """
    store, endpoint_url = options.store, options.endpoint_url
    facts = facts or read_store_facts(open_reader(store, endpoint_url=endpoint_url))
    features_of = features_of or partial(rebuild_features, store=store, endpoint_url=endpoint_url)
    now, left_out = now or datetime.now(UTC), list[LeftOut]()
    found, crossed = split_kinds(read_runs(options.runs, tell=left_out.append))
    if wanted := crossed_alone(found, crossed, options.task, options.cohort):
        return _write_crossed(options, select_runs(wanted, options.task, options.cohort), facts, now, left_out)
    runs = select_runs(found, options.task, options.cohort)
    headline = make_headline(runs)
    shown = headline.run or runs[-1]
    phantom = any(run.is_phantom for run in runs)
    looks = read_looks(options.runs, runs)
    warnings = [*say_left_out(left_out), *find_warnings(runs, facts.space)]
    explanation = explain_study(runs, features_of)
    context = {
        **_frame(facts, shown, phantom, now),
        **encoder_part(runs),
        **_cohort_part(facts, shown),
        **_detail_part(headline.run, phantom),
        "resplits": say_resplits(runs),
        "headline": headline,
        "headline_id": headline.run.id if headline.run else "",
        "warnings": warnings,
        "test_looks": say_looks(looks),
        "counted_here": COUNTED_HERE,
        "results": result_tables(runs, phantom),
        "leaderboard": comparison_tables(options.runs, shown.record.asked.task),
        "crossed": crossed_tables([run for run in crossed if run.record.asked.task == shown.record.asked.task]),
        **_validity_part(options.runs, headline.run, features_of),
        "places": other_places(runs),
        "explanation": explanation,
        "training": present([picture_training(run) for run in runs]),
        "runs": runs,
        "used_rows": [used_row(run) for run in runs],
        "checklist": make_checklist(facts, shown, runs, f"{say_looks(looks)}, {COUNTED_HERE}"),
    }
    page = options.out / PAGE
    write_model_card(shown, options.out, now=now)
    if explanation.values is not None:
        write_explanation(explanation.values, explanation.volumes, options.out / FILE)
    publish(render("study.html.j2", context), page)
    return StudyPage(page, tuple(runs), headline, phantom, len(looks), tuple(warnings), explanation, tuple(left_out))


def _write_crossed(
    options: StudyOptions, runs: list[FinishedRun], facts: StoreFacts, now: datetime, left_out: list[LeftOut]
) -> StudyPage:
    """Publish the page of runs that have no split: what they found, and no claim of a test."""
    headline, shown, phantom = crossed_headline(runs), runs[-1], any(run.is_phantom for run in runs)
    context = {
        **_frame(facts, shown, phantom, now),
        **encoder_part(runs),
        **_cohort_part(facts, shown),
        "resplits": say_resplits(runs),
        "headline": headline,
        "warnings": say_left_out(left_out),
        "crossed": crossed_tables(runs),
        "runs": runs,
    }
    page = options.out / PAGE
    write_model_card(shown, options.out, now=now)
    publish(render("cross_validated.html.j2", context), page)
    none = Explanation(absent="a cross-validated run is not explained")
    return StudyPage(page, tuple(runs), headline, phantom, 0, tuple(say_left_out(left_out)), none, tuple(left_out))


def _frame(facts: StoreFacts, shown: FinishedRun, phantom: bool, now: datetime) -> dict[str, Any]:
    return {
        "facts": facts,
        "task": shown.record.asked.task,
        "classes": shown.classes,
        "cohort_sha256": shown.record.cohort.cohort_sha256,
        "chance": chance_of(shown),
        "question": shown.task,
        "units": shown.units,
        "primary": title_of(shown.primary),
        "covariates": shown.covariates,
        "phantom": phantom,
        "date": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": version("octprobe"),
        "card": CARD,
    }


def _cohort_part(facts: StoreFacts, shown: FinishedRun) -> dict[str, Any]:
    counts = StoreCounts(facts.indexed, facts.committed, facts.errors_by_class, facts.missing)
    flow = make_flow(counts, shown.record.cohort.flow)
    alt = (
        "Cohort flow. "
        + "; ".join(f"{step.title}: {step.volumes} volumes" for step in (*flow.steps, *flow.splits))
        + "."
    )
    return {
        "flow": flow,
        "diagram": lay_out(flow),
        "flow_alt": alt,
        "splits": splits_table(shown),
        "people_apart": not say_shared(shown.record.cohort.splits_from),
    }


def _detail_part(run: FinishedRun | None, phantom: bool) -> dict[str, Any]:
    if run is None:
        return {"run": None}
    kinds, lines = class_table(run, "val")
    return {
        "run": run,
        "figures": detail_pictures(run, phantom),
        "class_kinds": kinds,
        "class_lines": lines,
        "people": units_judged(run, run.level, "val"),
    }


def _validity_part(runs_dir: Path, run: FinishedRun | None, features_of: FeaturesOf) -> dict[str, Any]:
    if run is None:
        return {}
    pictures = (picture_decision(run), picture_learning_curve(runs_dir, run), _map_picture(run, features_of))
    return {"validity": validity_tables(run), "p_values": p_value_sentence(run), "validity_figures": present(pictures)}


def _map_picture(run: FinishedRun, features_of: FeaturesOf) -> Picture | None:
    """Map what the head saw, train and validation together; test stays out of sight."""
    if run.stages:
        return None
    try:
        table = features_of(run.run)
    except OctProbeError:
        return None  # the section "What moved the model" says why the features cannot be read
    seen = table.where(table.split != "test")
    lines = run.run.cohort.set_index("volume").loc[seen.volume]
    columns = {name: lines[name].to_numpy(str) for name in ("site", "device")}
    if run.classes:
        columns["label"] = np.array(run.classes)[lines["label"].to_numpy(np.int64)]
    return picture_map(map_embedding(seen, columns, seed=0), run.is_phantom)


def _plain(estimate: Estimate) -> dict[str, Any]:
    if estimate.value is None:
        return {"absent": estimate.absent}
    low, high = estimate.interval or (None, None)
    return {"value": estimate.value, "low": low, "high": high}
