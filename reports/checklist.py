"""A reporting checklist in the manner of CLAIM, STARD-AI and TRIPOD+AI: only what software knows is filled in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classify.cohort.splitting import say_shared, say_splits
from classify.run.summary import describe_search
from reports.coverage import StoreFacts
from reports.runs import FinishedRun
from reports.tables import metrics_of, say_question


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a reader of a study should find. ``known`` is empty where only the investigator can say it."""

    section: str
    name: str
    known: str = ""

    @property
    def filled_by(self) -> str:
        """Say who fills it."""
        return "filled by software" if self.known else "to be filled by the investigator"


def make_checklist(facts: StoreFacts, run: FinishedRun, runs: Sequence[FinishedRun], test_looks: str) -> list[Item]:
    """List the items in the order of a paper; ``run`` is the one that the page is about."""
    return [
        *_background(run),
        *_data(facts, run),
        *_model(run),
        *_evaluation(runs),
        *_results(test_looks),
        *_closing(run),
    ]


def _background(run: FinishedRun) -> list[Item]:
    return [
        Item("Title", "Kind of study", f"{_kind_said(run)}; task {run.record.asked.task}"),
        Item("Introduction", "Clinical background, intended use and intended users"),
        Item("Introduction", "Objectives and hypotheses, stated before the analysis"),
        Item("Methods", "Study design, setting and dates"),
        Item("Methods", "Ethics approval, consent, licence of the data"),
    ]


def _data(facts: StoreFacts, run: FinishedRun) -> list[Item]:
    devices = ", ".join(row.value for row in facts.coverage.get("device", ())) or "unknown"
    sites = ", ".join(row.value for row in facts.coverage.get("site", ())) or "unknown"
    splits = run.record.cohort.splits
    sizes = ", ".join(f"{name} {size['participants']}" for name, size in splits.items())
    where = f", by {said}" if (said := say_splits(run.record.cohort.splits_from)) else ""
    apart = "" if say_shared(run.record.cohort.splits_from) else "all scans of a person are in one split"
    return [
        Item("Methods", "Data source", f"{facts.indexed:,} volumes indexed; sites: {sites}; devices: {devices}"),
        Item("Methods", "How participants were recruited, and whom they represent"),
        Item("Methods", "Eligibility and flow", "Section “Who was analysed”, from indexed volumes to splits"),
        Item("Methods", "Reference standard: classes", say_question(run.task)),
        Item("Methods", "Reference standard: how, when and by whom the label was made"),
        Item("Methods", "Missing data", "Left out, with counts and reasons; nothing was imputed in the embeddings"),
        Item("Methods", "Data partitions", f"Participants: {sizes}; {apart}{where}"),
        Item("Methods", "Sample size: justification"),
    ]


def _model(run: FinishedRun) -> list[Item]:
    space, features = run.record.asked.embedding_space, run.record.fitted.features
    weights = str(space.get("weights_sha256", "unknown"))
    pools = ", ".join(_as_list(features.get("pools")))
    return [
        Item("Methods", "Preprocessing", f"{_preset_said(space.get('preset'))}; precision {space.get('precision')}"),
        Item("Methods", "Encoder", f"{space.get('family', 'unknown')}, weights sha256 {weights}, {_tuned_said(run)}"),
        Item("Methods", "Pretraining data, and their overlap with these participants"),
        Item(
            "Methods", "Features", f"Layer {features.get('layer')}; pools {pools}; {features.get('dimensions')} numbers"
        ),
        Item("Methods", "Classifier and tuning", f"{run.model}; {_search_said(run)}"),
        Item("Methods", "Software", ", ".join(f"{k} {v}" for k, v in run.record.made.versions.items())),
    ]


def _evaluation(runs: Sequence[FinishedRun]) -> list[Item]:
    run = runs[0]
    compared = ", ".join(dict.fromkeys(name for run in runs for name in run.record.judged.baselines)) or "none"
    measured = ", ".join(one.title for one in metrics_of(run.task))
    return [
        Item("Methods", "Unit of analysis", f"{run.task.level.capitalize()} (primary), and the levels below it"),
        Item("Methods", "Metrics", f"{measured} (the first is primary), calibration"),
        Item("Methods", "Uncertainty", "95 % intervals by a bootstrap that draws whole participants"),
        Item("Methods", "Comparators", f"{compared}; same {run.units}, paired difference to {run.covariates}"),
        Item("Methods", "Number of models compared", f"{len(runs)} on this page"),
        Item("Methods", "Models tried but not on this page"),
        Item("Methods", "Fairness: groups considered, and why"),
    ]


def _results(test_looks: str) -> list[Item]:
    return [
        Item("Results", "Participants in each split and class", "Table of splits"),
        Item("Results", "Demographic and clinical characteristics"),
        Item("Results", "Performance with intervals", "Results tables and interval figure"),
        Item("Results", "Calibration", "Reliability diagram, with the number of units in each bin"),
        Item("Results", "Errors of the model", "Confusion matrix; per-class table"),
        Item("Results", "Volumes that could not be used", "Coverage and error classes"),
        Item("Results", "Use of the test split", test_looks),
        Item("Results", "External validation"),
    ]


def _closing(run: FinishedRun) -> list[Item]:
    return [
        Item("Discussion", "Interpretation, limitations, generalisability"),
        Item("Discussion", "Harms that a wrong answer could do"),
        Item("Other", "How to repeat the run", " ".join(_as_list(run.record.made.command))),
        Item("Other", "Registration and protocol"),
        Item("Other", "Availability of data, code and weights"),
        Item("Other", "Funding and interests"),
    ]


def _kind_said(run: FinishedRun) -> str:
    if run.stages:
        return f"Fine-tuning on retinal OCT volumes (stages {', '.join(run.stages)})"
    return "Probe on frozen embeddings of retinal OCT volumes"


def _tuned_said(run: FinishedRun) -> str:
    if set(run.stages) <= {"head"}:
        return "frozen"
    return f"then trained further to sha256 {run.record.fitted.parameters['encoder']['weights_sha256']}"


def _search_said(run: FinishedRun) -> str:
    if run.stages:
        return "parameters as set, no search; the epoch was chosen on validation participants"
    search = run.record.fitted.search
    if not search:
        return "default parameters, no search"
    return f"{describe_search(search)}, inside the training participants"


def _preset_said(preset: Any) -> str:
    """Name the preset, and every step that it takes."""
    if not isinstance(preset, Mapping):
        return f"Preset {preset or 'unknown'}"
    steps = [
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in preset.items()
        if name != "name" and value not in (None, False)
    ]
    return f"Preset {preset.get('name', 'unknown')}: {', '.join(steps) or 'nothing is changed'}"


def _as_list(raw: Any) -> list[str]:
    return [str(part) for part in raw] if isinstance(raw, list | tuple) else [str(raw)]
