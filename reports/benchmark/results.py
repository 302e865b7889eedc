"""From the cells of a benchmark to what a paper says of them: pure functions on predictions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from classify.baselines.covariates import DUMMY, OF_SCANS, PIXELS
from classify.comparing.board import Board
from classify.comparing.entries import entries_of
from classify.comparing.leaderboard import rank_entries
from classify.comparing.over_datasets import MeanDifference, mean_difference
from classify.comparing.ranks import NoRanks, Ranks, rank_models
from classify.comparing.to_reference import Differences, Drawn, add_holm, compare_to, draw_entries
from classify.judging.bootstrap import why_too_few
from classify.judging.kinds import CLASSES, measures_of, sign_of
from classify.run.record import Missing
from reports.benchmark.cells import Made
from reports.benchmark.plan import FINE_TUNED, Plan

FLOORS = (DUMMY, PIXELS, *OF_SCANS)
"""What stands in every table, or its reason: chance, pixels, and facts of the files (frames, size, device, type)."""

SAME_READING = ("weights_sha256", "image_size", "preset")
"""Fields of a space by which a frozen encoder is the one that a fine-tuned run began with, whatever its store keeps."""

RANKED_BY = "macro_auroc"
"""What papers rank by; balanced accuracy stands next to it."""


@dataclass(frozen=True, kw_only=True)
class DatasetBoard(Board):
    """The leaderboard of one task of a dataset, and by line the differences of the primary metric and the next ones.

    to_reference: to the same head on the reference. slices: of fewer slices to the most. fine_tuned: to the encoder
    that it began with; began_with: its name, None where it has no cell here.
    """

    dataset: str
    task: str
    classes: list[str]
    primary: str
    floors: list[str]
    floors_missing: list[Missing]
    to_reference: dict[str, Differences]
    slices: dict[str, Differences]
    fine_tuned: dict[str, Differences]
    began_with: dict[str, str | None]


@dataclass(frozen=True)
class OverDatasets:
    """boards: the one that stands for each dataset. lines: by cell and metric, minus the reference."""

    boards: dict[str, str]
    lines: dict[str, dict[str, MeanDifference]]


@dataclass(frozen=True)
class CellFacts:
    """A cell with the digests of what it was made of, so that two groups can compare cell by cell."""

    dataset: str
    task: str
    encoder: str
    head: str
    run: str
    reused: bool
    space: str
    weights_sha256: str | None
    inputs_sha256: str
    cohort_sha256: str
    model_sha256: dict[str, dict[str, str]]


def seed_of(plan: Plan, dataset: str, task: str) -> int:
    """Return the seed of the draws of a board: others for each, since other people were drawn."""
    return int(plan.fitted.get("seed", 0)) + crc32(f"{dataset}/{task}".encode())


def make_boards(
    plan: Plan, made: Sequence[Made], split: str | None
) -> tuple[dict[str, DatasetBoard], dict[str, Drawn]]:
    """Give, by dataset/task, the table and the draws behind it. split: None is the one that the runs judged."""
    boards, draws = {}, {}
    for name in dict.fromkeys(f"{one.dataset}/{one.task}" for one in made):
        here = [one for one in made if f"{one.dataset}/{one.task}" == name]
        boards[name], draws[name] = _board(plan, here, split)
    return boards, draws


def _board(plan: Plan, here: Sequence[Made], split: str | None) -> tuple[DatasetBoard, Drawn]:
    cells = [one.cell for one in here]
    classes, seed = cells[0].run.record.asked.classes, seed_of(plan, here[0].dataset, here[0].task)
    replicates = int(plan.fitted.get("replicates", 2000))
    split = None if cells[0].run.record.is_crossed else split  # whose people were all judged out of fold
    entries = [entry for one in here for entry in entries_of(one.cell, cells, None, split)]
    drawn = draw_entries(entries, classes, replicates=replicates, seed=seed)
    ranked = rank_entries(entries, classes, replicates=replicates, seed=seed)
    names = {one.name for one in here}
    to_reference = {
        one.name: other for one in here if (other := f"{plan.reference}/{one.head}") in names and other != one.name
    }
    frozen = _frozen_of(plan, here)
    board = DatasetBoard(
        **vars(ranked),
        dataset=here[0].dataset,
        task=here[0].task,
        classes=list(classes),
        primary=_primary(classes),
        floors=[entry.name for entry in entries if entry.kind == "baseline"],
        floors_missing=[one for one in cells[0].run.record.rivals.baselines_missing if one["name"] in FLOORS],
        to_reference=compare_to(to_reference, drawn),
        slices=compare_to(_fewer_slices(plan, here), drawn),
        fine_tuned=compare_to(frozen, drawn),
        began_with={one.name: frozen.get(one.name) for one in here if one.variant == FINE_TUNED},
    )
    return board, drawn


def _primary(classes: Sequence[str]) -> str:
    return RANKED_BY if classes else measures_of(classes).headline[0]


def _fewer_slices(plan: Plan, here: Sequence[Made]) -> dict[str, str]:
    """Name, for each variant of an encoder, the one with the most slices of the plan, with the same head; few first."""
    names, found = {one.name for one in here}, {}
    for one in sorted(plan.variants, key=lambda variant: variant.slice_count):
        most = max((other for other in plan.variants if other.encoder == one.encoder), key=lambda v: v.slice_count)
        for head in plan.heads:
            if most != one and {f"{one.name}/{head}", f"{most.name}/{head}"} <= names:
                found[f"{one.name}/{head}"] = f"{most.name}/{head}"
    return found


def _frozen_of(plan: Plan, here: Sequence[Made]) -> dict[str, str]:
    """Name, for each fine-tuned run, the frozen encoder that it began with, under the plan's first head.

    It has the same weights and reads as many slices of the same size, prepared alike.
    """
    frozen = {
        begins: one.name
        for one in here
        if one.variant != FINE_TUNED and one.head == plan.heads[0] and (begins := _beginning(one))
    }
    tuned = {one.name: frozen.get(_beginning(one)) for one in here if one.variant == FINE_TUNED}
    return {name: other for name, other in tuned.items() if other is not None}


def _beginning(made: Made) -> str:
    """Tell an encoder by what it computes: its space without what a store keeps of it; "" where it is not recorded."""
    space = made.cell.run.record.asked.embedding_space
    return repr([space[name] for name in SAME_READING]) if space.get("weights_sha256") else ""


def first_boards(plan: Plan, boards: Mapping[str, DatasetBoard]) -> dict[str, str]:
    """Name the board that stands for each dataset: that of its first task, where this asks for classes."""
    found = {}
    for dataset in plan.datasets:
        name = f"{dataset.name}/{next(iter(dataset.tasks))}"
        if name in boards and boards[name].classes:
            found[dataset.name] = name
    return found


def over_datasets(plan: Plan, boards: Mapping[str, DatasetBoard], draws: Mapping[str, Drawn]) -> OverDatasets:
    """Give the mean difference to the reference over datasets, by cell and metric, and Holm's p of each claim."""
    first = first_boards(plan, boards)
    lines: dict[str, dict[str, MeanDifference]] = {}
    for head in plan.heads:
        for variant in plan.variants:
            name, other = f"{variant.name}/{head}", f"{plan.reference}/{head}"
            if name == other or not any(name in draws[board].values for board in first.values()):
                continue
            lines[name] = {metric: _mean(name, other, metric, first, draws) for metric in CLASSES.headline}
    for claim in ("these", "like_these"):
        held = {n: {metric: getattr(one, claim) for metric, one in of.items()} for n, of in lines.items()}
        add_holm(held, CLASSES.headline)
        lines = {n: {m: replace(one, **{claim: held[n][m]}) for m, one in of.items()} for n, of in lines.items()}
    return OverDatasets(first, lines)


def _mean(name: str, other: str, metric: str, first: Mapping[str, str], draws: Mapping[str, Drawn]) -> MeanDifference:
    both = {dataset: draws[board] for dataset, board in first.items() if {name, other} <= set(draws[board].values)}
    apart = {dataset: drawn.values[name][metric] - drawn.values[other][metric] for dataset, drawn in both.items()}
    few = {dataset: why_too_few(drawn.people, drawn.classes) for dataset, drawn in both.items()}
    return mean_difference(apart, few)


def ranks_over_datasets(
    plan: Plan, boards: Mapping[str, DatasetBoard], draws: Mapping[str, Drawn]
) -> dict[str, Ranks | NoRanks]:
    """Rank the encoders over datasets, head by head, by RANKED_BY."""
    found = {}
    for head in plan.heads:
        scores = {}
        for dataset, board in first_boards(plan, boards).items():
            values = draws[board].values
            scores[dataset] = {
                one.name: sign_of(RANKED_BY) * float(values[f"{one.name}/{head}"][RANKED_BY][0])
                for one in plan.variants
                if f"{one.name}/{head}" in values
            }
        found[head] = rank_models(scores)
    return found


def describe_cells(made: Iterable[Made]) -> list[CellFacts]:
    """List every cell with its digests."""
    found = []
    for one in made:
        record = one.cell.run.record
        weights = (record.asked.encoder_source or {}).get("weights_sha256")
        found.append(
            CellFacts(
                one.dataset, one.task, one.variant, one.head, record.id, one.cell.reused, record.asked.space, weights,
                record.made.inputs_sha256, record.cohort.cohort_sha256, record.made.model_sha256,
            )
        )  # fmt: skip
    return found
