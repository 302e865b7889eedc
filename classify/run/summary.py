"""A short table of a run for people: participant level, intervals, baselines, and the difference that matters."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from classify.baselines.covariates import headline_of
from classify.cohort.questions import Task
from classify.cohort.splitting import say_splits
from classify.cohort.tasks import parse_task, task_of_record
from classify.judging.bootstrap import caution_few
from classify.judging.kinds import SMALLER_IS_BETTER, measures_of
from classify.judging.metrics import OF_ORDER
from classify.judging.rivals import hardest_rival, is_above_all
from classify.run.estimate import Estimate
from classify.run.ledger import COUNTED_HERE
from classify.run.record import FlowStep, Missing, Open, Resplit, RunRecord, SplitSize
from embeddings_store.encoder_source import NOT_RECORDED, source_of_record
from embeddings_store.terminal.console import show, show_table

RESEARCH_ONLY = "Research use only, not for clinical decisions."
RANDOM_WEIGHTS = "RANDOM WEIGHTS: the encoder was not trained, or barely; nothing here was learned in pretraining."
PHANTOM = "SYNTHETIC PHANTOM: these numbers say nothing about people."


def print_summary(record: RunRecord) -> None:
    """Print the table and the closing lines."""
    show_table(metric_table(record))
    for line in headline(record):
        show(line)


def metric_table(record: RunRecord) -> Table:
    """Lay out the model and the baselines, one line each, on val, or out of fold."""
    return _table(record, record.judged_split)


def print_evaluation(record: RunRecord, looks: int) -> None:
    """Print the same table of the test split, and how often the split has been looked at."""
    show_table(_table(record, "test"))
    for line in evaluation_lines(record, looks):
        show(line)


def print_baselines(judged: Mapping[str, Any]) -> None:
    """Print the table of ``classify baselines``, and why some of them are not in it."""
    title = f"baselines, {judged['task']}: {describe_split(judged['splits'], {}, judged['split'])}, 95 % intervals"
    show_table(_lay_out(title, judged["baselines"], shown_of(parse_task(judged["task_definition"], "baselines"))))
    lines = missing_lines(judged["baselines_missing"])
    lines += [step_line(step) for step in judged["flow"] if step["kind"] != "total"]
    if caution := caution_of(judged["splits"], judged["split"]):
        lines.append(caution)
    for line in [*lines, *([PHANTOM] if judged["phantom"] else []), RESEARCH_ONLY]:
        show(line)


def encoder_lines(encoder_source: Open | None, of: str = "") -> list[str]:
    """Say where the encoder comes from, loudly where it was not trained."""
    source = source_of_record(encoder_source)
    lines = [f"encoder{of}: {source.describe() if source else NOT_RECORDED}"]
    return [*lines, RANDOM_WEIGHTS] if source and source.is_untrained else lines


def step_line(step: FlowStep) -> str:
    """Give one step of the flow: who was left out, or what is odd about them."""
    return f"{step['step']}: {step['participants']} participants, {step['volumes']} volumes ({step['reason']})"


def describe_split(splits: Mapping[str, SplitSize], pretraining: Open, split: str) -> str:
    """Give "159 participants of val", and how many of them the encoder was pretrained on."""
    count = splits[split]["participants"]
    seen = pretraining.get("participants", {}).get(split, 0)
    said = f", {seen} OF THEM SEEN IN PRETRAINING" if seen else ""
    return f"{count} participants of {split}{said}"


def caution_of(splits: Mapping[str, SplitSize], split: str) -> str | None:
    """Warn where a split has too few people for intervals: see caution_few."""
    return caution_few(splits[split], split)


def pretraining_lines(pretraining: Mapping[str, Any], split: str) -> list[str]:
    """Say how far the encoder's own participants reach into a split, and what is left without them."""
    if not pretraining:
        return []
    if not pretraining["given"]:
        return [f"pretraining: {pretraining['reason']}"]
    counts = pretraining["participants"]
    said = ", ".join(f"{count} of {name}" for name, count in counts.items())
    lines = [f"seen in pretraining: {said} ({pretraining['listed']} listed), known by number alone"]
    if doubtful := pretraining.get("with_other_volumes"):
        lines.append(
            f"warning: {doubtful} of the listed numbers have other volumes here than in an earlier run: whether the "
            "encoder has seen these people is not known; they count as seen"
        )
    if not any(counts.values()):
        lines.append("nobody listed is a participant of this cohort: no overlap, or ids that are written otherwise")
    without = pretraining["without"].get(split)
    if isinstance(without, dict):
        lines.append(
            f"warning: the encoder has seen {counts[split]} of {split}; without them ({without['participants']} left): "
            + ", ".join(f"{name} {format_measured(found, name)}" for name, found in _headline_of(without["metrics"]))
        )
    elif counts[split]:
        why = without.absent if without else "give --pretrain-participants for the result without them"
        lines.append(f"warning: the encoder has seen {counts[split]} of {split}; {why}")
    return lines


def evaluation_lines(record: RunRecord, looks: int) -> list[str]:
    """Give the closing lines of an evaluation; a second look is allowed, and said."""
    difference = record.evaluations[-1]["difference_to_age_site"]
    own = headline_of(task_of_record(record)) or "covariates"
    lines = [f"{name}: difference to {own} {format_measured(found, name)}" for name, found in difference.items()]
    lines += rival_lines(record.evaluations[-1].get("difference_to_baselines", {}))
    lines += [*contrast_lines(record.judged.contrasts["test"]), p_value_line(record.judged.permutation["test"])]
    if caution := caution_of(record.cohort.splits, "test"):
        lines.append(caution)
    lines += pretraining_lines(record.cohort.pretraining, "test")
    said = "" if looks == 1 else "; it is no longer untouched: say so with every number"
    times = f"{looks} time{'s' if looks > 1 else ''}"
    lines.append(f"people of this test split have been looked at {times}{said}; {COUNTED_HERE}")
    lines += resplit_lines(record.cohort.resplit)
    lines += encoder_lines(record.asked.encoder_source)
    return [*lines, *([PHANTOM] if record.asked.phantom else []), RESEARCH_ONLY]


def _table(record: RunRecord, split: str) -> Table:
    size = describe_split(record.cohort.splits, record.cohort.pretraining, split)
    title = f"{record.fitted.model}, {record.asked.task}: {size}, 95 % intervals"
    level = next(reversed(record.judged.metrics))
    models = {record.fitted.model: record.judged.metrics[level]} | record.judged.baselines
    found = {name: measured[split] for name, measured in models.items() if split in measured}
    return _lay_out(title, found, shown_of(task_of_record(record)))


def shown_of(task: Task) -> list[str]:
    """Name the metrics of the table; distances between classes are shown only where these have an order."""
    return [name for name in measures_of(task.classes).table if task.kind == "ordered" or name not in OF_ORDER]


def _lay_out(title: str, models: Mapping[str, Mapping[str, Estimate]], shown: Sequence[str]) -> Table:
    table = Table(title=title)
    for name in ("", *shown):
        table.add_column(name.replace("_", " "))
    for name, measured in models.items():
        table.add_row(name, *(format_measured(measured[metric], metric) for metric in shown))
    return table


def _headline_of(measured: Mapping[str, Estimate]) -> list[tuple[str, Estimate]]:
    """Give the headline of metrics that may be of classes or of a number."""
    headline = measures_of(() if "r2" in measured else ("classes",)).headline
    return [(name, measured[name]) for name in headline]


def headline(record: RunRecord) -> list[str]:
    """Give the closing lines: the difference to the covariates, what the test set saw, and what this is not."""
    own = headline_of(task_of_record(record)) or "covariates"
    lines = [
        f"{metric}: difference to {own} {format_measured(measured, metric)}"
        for metric, measured in record.judged.difference_to_age_site.items()
    ]
    lines += [*rival_lines(record.judged.difference_to_baselines), *missing_lines(record.rivals.baselines_missing)]
    lines += [
        f"{metric}: added to {own} by the embedding {format_measured(measured, metric)}"
        for metric, measured in record.judged.added_to_age_site.items()
    ]
    lines += [
        f"{metric}: difference to random twin {format_measured(measured, metric)}"
        for metric, measured in record.rivals.difference_to_random_twin.items()
    ]
    lines += store_lines(record.rivals.stores or {})
    lines += [f"random twin: {note}" for note in (record.rivals.random_twin or {}).get("notes", [])]
    split = record.judged_split
    lines += [*contrast_lines(record.judged.contrasts[split]), p_value_line(record.judged.permutation[split])]
    if caution := caution_of(record.cohort.splits, split):
        lines.append(caution)
    lines += pretraining_lines(record.cohort.pretraining, split)
    lines += [step_line(step) for step in record.cohort.flow if step["kind"] != "total"]
    if constant := record.fitted.features.get("constant", 0):
        lines.append(
            f"{constant} of {record.fitted.features['dimensions']} features never vary in train: they say nothing"
        )
    lines += robustness_lines(record.fitted.robustness or {})
    lines += [*search_lines(record.fitted.search or {}), *seed_lines(record.fitted.seed_sensitivity or {})]
    lines += fold_lines(record.fitted.cross_validation or {})
    if said := say_splits(record.cohort.splits_from):
        lines.append(f"splits: {said}")
    locked = record.cohort.splits["test"]["participants"]
    if locked or not record.is_crossed:
        lines.append(f"test: {locked} participants locked, neither fitted on nor predicted")
    if beyond := len(record.cohort.test_people) - locked:
        lines.append(f"test: {beyond} more of the table stay locked, without a volume here or left out by the task")
    lines += resplit_lines(record.cohort.resplit)
    lines += encoder_lines(record.asked.encoder_source)
    return [*lines, *([PHANTOM] if record.asked.phantom else []), RESEARCH_ONLY]


def store_lines(stores: Mapping[str, Any]) -> list[str]:
    """Say what several stores give beyond the first of them, in each way to use them."""
    lines = [
        f"{metric}: {way} minus {stores['first']} alone {format_measured(found[metric])}"
        for way, found in stores.get("differences_to_first", {}).items()
        for metric in found
    ]
    return [*lines, f"stores: {stores['adds']}"] if lines else []


def rival_lines(differences: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Name the baseline that is hardest to beat, and say whether it was beaten, by each metric."""
    lines = []
    metrics = list(dict.fromkeys(metric for of in differences.values() for metric in of))
    for metric in metrics:
        if (name := hardest_rival(differences, metric)) is None:
            continue
        side = "below" if metric in SMALLER_IS_BETTER else "above"
        above = side if is_above_all(differences, metric) else f"not shown to be {side}"
        found = format_measured(differences[name][metric], metric)
        lines.append(f"{metric}: hardest baseline {name}, difference {found}: {above} each of {len(differences)}")
    if lines:
        shown = "better" if all(is_above_all(differences, metric) for metric in metrics) else "not shown to be better"
        lines.append(f"by {' and '.join(metrics)} together: {shown} than each of {len(differences)} baselines")
    return lines


def missing_lines(missing: Sequence[Missing]) -> list[str]:
    """Give the baselines that could not be made, and why."""
    return [f"{line['name']}: absent: {line['reason']}" for line in missing]


def resplit_lines(resplit: Resplit | None) -> list[str]:
    """Say that people of earlier runs stand otherwise in this one, and the reason that was given."""
    return [f"resplit: {resplit['why']}; the reason given: {resplit['reason']}"] if resplit else []


def contrast_lines(contrasts: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Give the AUROC of each two-sided question."""
    return [f"{name}: AUROC {format_measured(measured['auroc'])}" for name, measured in contrasts.items()]


def robustness_lines(robustness: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Give, for each site and device that was left out of training, the macro AUROC or R2 there and what it lost."""
    lines = []
    for by, left_out in robustness.items():
        for line in left_out:
            name = "r2" if "r2" in line.get("without", {}) else "macro_auroc"
            said = line.get("absent") or (
                f"{'R2' if name == 'r2' else 'macro AUROC'} {format_measured(line['without'][name])}, "
                f"minus as many left out at random {format_measured(line['beyond_chance'][name])}"
            )
            lines.append(f"without {by} {line['held_out']} ({line['participants']} participants there): {said}")
    return lines


def search_lines(search: Mapping[str, Any]) -> list[str]:
    """Say what was chosen inside train, and what choosing so is worth on participants that it never saw."""
    if not search:
        return []
    best, features = search["best"], search["best"]["features"]
    said = f"layer {features['layer']}, {','.join(features['pools']) or 'tokens'}, {best['aggregation']}"
    lines = [f"search: {search['trials']} tried, {search['pruned']} stopped early; best inside train: {said}"]
    lines += among_lines(search.get("among") or {}, str(search.get("metric")))
    for metric, measured in search.get("nested", {}).get("metrics", {}).items():
        lines.append(f"nested: {metric} of the whole search on outer folds {format_measured(measured, metric)}")
    return lines


def describe_search(search: Mapping[str, Any]) -> str:
    """Say in a few words how parameters, and with auto the head, were chosen."""
    heads = len((search.get("among") or {}).get("heads", []))
    among = f", and one of {heads} heads" if heads else ""
    return f"{search.get('trials')} trials by {search.get('metric')}{among}"


def among_lines(among: Mapping[str, Any], metric: str) -> list[str]:
    """Say which heads auto chose among, the best first, which it took, and by how much its value flatters it."""
    heads = sorted(among.get("heads", []), key=lambda one: -(one["value"] or 0.0))
    if not heads:
        return []
    told = ", ".join(
        f"{one['model']} {'absent' if one['value'] is None else format(one['value'], '.3f')}" for one in heads
    )
    cost = among.get("cost_of_choosing")
    taken = among.get("taken", heads[0]["model"])  # a run of before took the best
    why = "" if taken == heads[0]["model"] else f"; {taken} is taken, which is simpler and as good but for chance"
    flattered = "" if cost is None else f"; {taken} is {cost:.3f} too high for having been chosen among {len(heads)}"
    return [f"auto: {metric} inside train: {told}{why}{flattered}"]


def fold_lines(crossed: Mapping[str, Any]) -> list[str]:
    """Say what each fold of a cross-validation found, and that no test is claimed."""
    if not crossed:
        return []
    lines = [
        f"fold {line['fold']}: {line['participants']} participants: "
        + ", ".join(f"{metric} {format_measured(measured)}" for metric, measured in line["metrics"].items())
        for line in crossed["lines"]
    ]
    return [*lines, crossed["claim"]]


def seed_lines(sensitivity: Mapping[str, Any]) -> list[str]:
    """Say how far the result moves with the seed of the final fit: a range, not an interval."""
    return [
        f"seeds: {metric} over {len(sensitivity['seeds'])} fits: mean {found['mean']:.3f}, range "
        f"{found['lowest']:.3f} to {found['highest']:.3f}"
        for metric, found in sensitivity.get("metrics", {}).items()
        if "mean" in found
    ]


def p_value_line(permutation: Mapping[str, Any]) -> str:
    """Return the p-values of the permuted labels, which know nothing of covariates."""
    said = [
        f"{metric} absent: {p.absent}" if p.value is None else f"{metric} {p.value:.4f}"
        for metric, p in permutation["p_values"].items()
    ]
    return f"p, labels permuted between participants {permutation['permutations']} times: {'; '.join(said)}"


def format_measured(measured: Estimate, metric: str = "") -> str:
    """Write an estimate; of a metric in the unit of the target with four digits, since the unit may be small."""
    return measured.text("{:.4g}".format if metric in SMALLER_IS_BETTER else "{:.2f}".format)
