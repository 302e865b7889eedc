"""The tables of a benchmark, made once from its record: page, Markdown and LaTeX show the same ones."""

from collections.abc import Iterator, Set
from functools import partial
from typing import Any

from classify.comparing.board import Line
from classify.comparing.ranks import NoRanks
from classify.comparing.to_reference import Differences
from classify.judging.kinds import CLASSES, measures_of
from classify.run.estimate import Estimate
from reports.benchmark.cost import CostLine, NotTimed
from reports.benchmark.look import Gap
from reports.benchmark.plan import FINE_TUNED
from reports.benchmark.record import BenchmarkRecord
from reports.benchmark.results import DatasetBoard
from reports.benchmark.transport import Moved
from reports.headline import number
from reports.runs import to_estimate
from reports.validity import TITLES, Cell, PlainTable

NOT_THERE = "the cell is absent"
NO_FROZEN = "no cell here is of the weights, image size and preset that it began with"


def make_tables(record: BenchmarkRecord) -> dict[str, list[PlainTable]]:
    """Give the tables by section of the page."""
    return {
        "datasets": [_board(record, name, board) for name, board in record.boards.items()],
        "slices": [one for name, board in record.boards.items() if (one := _slices(name, board)) is not None],
        "fine_tuned": [one for name, board in record.boards.items() if (one := _fine_tuned(name, board)) is not None],
        "over": [*_over(record)],
        "ranks": [*_ranks(record)],
        "transport": [*_transport(record)],
        "cost": [*_cost(record)],
        "gaps": [*_gaps(record)],
        "sources": [*_sources(record)],
    }


def title(metric: str) -> str:
    """Write the name of a metric as on paper."""
    return TITLES.get(metric, metric.replace("_", " "))


def _board(record: BenchmarkRecord, name: str, board: DatasetBoard) -> PlainTable:
    headline = [board.primary, *(one for one in measures_of(board.classes).headline if one != board.primary)]
    reference, primary = record.plan.reference, board.primary
    rows: list[tuple[Cell, ...]] = []
    for line in board.lines:
        apart = board.to_reference.get(line.name, {}).get(primary)
        kind = "floor" if line.kind == "baseline" else "with covariates" if line.kind == "together" else ""
        rows.append(
            (
                line.name,
                kind,
                *(to_estimate(line.metrics.get(one)) for one in headline),
                _minus(line, apart, reference, {one.name for one in board.lines}),
                p_text(apart),
            )
        )
    none = ["" for _ in headline[1:]] + ["", ""]
    rows += [(one["name"], "floor", Estimate(absent=one["reason"]), *none) for one in board.floors_missing]
    gaps = [gap for gap in record.gaps if gap.dataset == board.dataset and gap.task in ("", board.task)]
    rows += [(_gap_name(gap), "gap", Estimate(absent=gap.reason), *none) for gap in gaps]
    people = ", ".join(f"{count} {of}" for of, count in board.per_class.items())
    caption = (
        f"Split {board.split}, {board.participants} participants{f' ({people})' if people else ''}, the same for "
        f"every line; 95 % intervals by drawing participants ({board.replicates} draws). Difference: paired, to "
        f"{reference} with the same head; p is two-sided, Holm's for {len(board.to_reference)} differences."
    )
    columns = (
        "Encoder / head",
        "Kind",
        *(title(one) for one in headline),
        f"{title(primary)} minus {reference}",
        "p (Holm)",
    )
    return PlainTable(f"board-{anchor(name)}", name, caption, columns, rows, signed=False)


def _minus(line: Line, apart: Estimate | None, reference: str, names: Set[str]) -> Cell:
    """Give the difference to the reference; why there is none for a model whose reference is missing here."""
    if apart is not None:
        return apart
    frozen = line.kind == "model" and not line.name.startswith(f"{FINE_TUNED}/")
    missing = frozen and f"{reference}/{line.name.rpartition('/')[2]}" not in names
    return Estimate(absent=f"{reference} has no cell here") if missing else ""


def _is(p: float) -> str:
    text = p_text(Estimate(p=p))
    return text if text.startswith("<") else f"= {text}"


def p_text(measured: Estimate | None) -> str:
    """Write a p-value as tables do; "" where there is none."""
    p = None if measured is None else measured.p if measured.holm is None else measured.holm
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def anchor(name: str) -> str:
    """Return a name that may stand in an address."""
    return name.replace("/", "-").replace("@", "-").replace(".", "-")


def _gap_name(gap: Gap) -> str:
    return f"{gap.variant}/{gap.head}" if gap.head else gap.variant


def _slices(name: str, board: DatasetBoard) -> PlainTable | None:
    if not board.slices:
        return None
    primary = board.primary
    rows = [(line, to_estimate(of.get(primary)), p_text(of.get(primary))) for line, of in board.slices.items()]
    caption = "Fewer slices minus the most slices of the plan, for the same encoder, head and people; p: Holm's."
    columns = ("Encoder / head", f"{title(primary)}: difference", "p (Holm)")
    return PlainTable(f"slices-{anchor(name)}", f"Slices against volumes: {name}", caption, columns, rows, signed=True)


def _fine_tuned(name: str, board: DatasetBoard) -> PlainTable | None:
    if not board.began_with:
        return None
    primary, rows = board.primary, list[tuple[Cell, ...]]()
    for line, frozen in board.began_with.items():
        apart = board.fine_tuned.get(line, {}).get(primary)
        rows.append((line, frozen or "none here", to_estimate(apart, NO_FROZEN), p_text(apart)))
    caption = (
        "Fine-tuned minus the same encoder frozen, under the first head of the plan, same people; p: Holm's. On val "
        "the fine-tuned one is too good, since val chose when its training stopped."
    )
    columns = ("Run", "Frozen", f"{title(primary)}: difference", "p (Holm)")
    return PlainTable(
        f"tuned-{anchor(name)}", f"Fine-tuned against frozen: {name}", caption, columns, rows, signed=True
    )


def _over(record: BenchmarkRecord) -> Iterator[PlainTable]:
    over = record.over_datasets
    if not over.lines:
        return
    boards = ", ".join(over.boards.values())
    for metric in CLASSES.headline[::-1]:
        rows = [
            (
                name,
                str(len(of[metric].datasets)),
                to_estimate(of[metric].these),
                p_text(of[metric].these),
                to_estimate(of[metric].like_these),
                p_text(of[metric].like_these),
            )
            for name, of in over.lines.items()
        ]
        caption = (
            f"Mean of {title(metric)} minus {record.plan.reference} over the datasets, each with the same weight "
            f"({boards}). “These datasets” draws their people anew; “Datasets like these” treats the datasets as a "
            f"sample, too (Student's t over one difference per dataset), and so says what to expect elsewhere. p: "
            f"Holm's, for all "
            "lines."
        )
        columns = ("Encoder / head", "Datasets", "These datasets", "p (Holm)", "Datasets like these", "p (Holm)")
        yield PlainTable(f"over-{metric}", f"Over datasets: {title(metric)}", caption, columns, rows, signed=True)


def _ranks(record: BenchmarkRecord) -> Iterator[PlainTable]:
    for head, found in record.ranks.items():
        heading, columns = f"Ranks of encoders, head {head}", ("Encoder", "Mean rank")
        if isinstance(found, NoRanks):
            yield PlainTable(f"ranks-{head}", heading, f"Absent: {found.absent}.", columns, [])
            continue
        without = ", ".join(found.left_out)
        out = f" Left out, because an encoder is missing there: {without}." if without else ""
        caption = (
            f"By macro AUROC over {len(found.datasets)} datasets ({', '.join(found.datasets)}); 1 is best."
            f"{out} Friedman's test: p {_is(found.friedman['p'])}. Two mean ranks that lie closer than "
            f"the critical difference {found.critical_difference:.2f} are not shown to differ (Nemenyi, 5 %; "
            "Demsar 2006)."
        )
        yield PlainTable(f"ranks-{head}", heading, caption, columns, [(n, f"{r:.2f}") for n, r in found.ranks.items()])


def _transport(record: BenchmarkRecord) -> Iterator[PlainTable]:
    for meaning in dict.fromkeys(one.meaning for one in record.transport):
        here = [one for one in record.transport if one.meaning == meaning]
        places = list(dict.fromkeys(one.home for one in here))
        cells = {(one.variant, one.head, one.home, one.away): one for one in here}
        rows: list[tuple[Cell, ...]] = []
        for variant, head in dict.fromkeys((one.variant, one.head) for one in here):
            for home in places:
                row = [
                    _own(record, home, f"{variant}/{head}")
                    if home == away
                    else _away(cells.get((variant, head, home, away)))
                    for away in places
                ]
                rows.append((f"{variant}/{head}", home, *row))
        caption = (
            "Macro AUROC of a model trained on the dataset named in the row and tested on the one named in the column; "
            "where they are the same, the number of the table above. Each test is counted in the ledger of the runs. "
            "Meaning: "
            f"{meaning}."
        )
        columns = ("Encoder / head", "Trained on", *(f"Tested on {one}" for one in places))
        yield PlainTable(f"transport-{anchor(meaning)}", f"Transport: {meaning}", caption, columns, rows)
        lost = [
            (f"{one.variant}/{one.head}", one.home, one.away, to_estimate(one.gap["macro_auroc"]))
            for one in here
            if one.gap
        ]
        yield PlainTable(
            f"gap-{anchor(meaning)}", f"What is lost on the way: {meaning}",
            "Macro AUROC there minus at home, from independent draws of both; below 0: lost.",
            ("Encoder / head", "Trained on", "Tested on", "Gap"), lost, signed=True,
        )  # fmt: skip


def _own(record: BenchmarkRecord, board: str, name: str) -> Estimate:
    lines = record.boards[board].lines if board in record.boards else []
    found = next((line.metrics["macro_auroc"] for line in lines if line.name == name), None)
    return to_estimate(found, NOT_THERE)


def _away(cell: Moved | None) -> Estimate:
    if cell is None or not cell.metrics:
        return Estimate(absent=NOT_THERE if cell is None else cell.reason)
    return to_estimate(cell.metrics["macro_auroc"])


def _cost(record: BenchmarkRecord) -> Iterator[PlainTable]:
    if not record.cost:
        return
    rows = [(line.dataset, line.encoder, *_spent(line)) for line in record.cost]
    caption = (
        "Measured on a sample of the first volumes, each encoder by itself, and summed over its threads: fetching, "
        "decoding, preparing and encoding, without fitting heads. Memory: the most that the device held or, on a CPU, "
        "that this process had used by then. Price: only where the plan gives usd_per_hour."
    )
    columns = (
        "Dataset",
        "Encoder",
        "Device",
        "Seconds per 1,000 volumes",
        "Of it encoding",
        "Memory, MB",
        "US dollars per 1,000",
    )
    yield PlainTable("cost-of-volumes", "What 1,000 volumes cost", caption, columns, rows)


def _spent(line: CostLine) -> tuple[str, str, str, str, str]:
    if isinstance(line, NotTimed):
        return ("", f"absent: {line.absent}", "", "", "")
    dollars = "not stated" if line.usd_per_1000 is None else f"{line.usd_per_1000:.2f}"
    memory = f"{line.memory_mb:,.0f} ({line.memory_of})"
    return line.device, f"{line.seconds_per_1000:,.0f}", f"{1000 * line.encode_s:,.0f}", memory, dollars


def _gaps(record: BenchmarkRecord) -> Iterator[PlainTable]:
    if record.gaps:
        rows = [(gap.dataset, gap.task or "every task", _gap_name(gap), gap.reason) for gap in record.gaps]
        yield PlainTable(
            "gaps", "Cells that are absent", "Each cell that the plan asks for and that could not be, with its reason.",
            ("Dataset", "Task", "Encoder / head", "Why"), rows,
        )  # fmt: skip


def _sources(record: BenchmarkRecord) -> Iterator[PlainTable]:
    rows = [(one.name, one.kind, one.title, one.licence, one.citation) for one in record.sources]
    caption = (
        "What was used, its terms as far as they are known here, and what to cite. Read the terms themselves at their "
        "source."
    )
    columns = ("Name", "Kind", "What it is", "Licence", "To cite")
    yield PlainTable("sources", "Licences and citations", caption, columns, rows)


def cell_text(cell: str | Estimate, *, signed: bool) -> str:
    """Write a cell in plain text."""
    return cell if isinstance(cell, str) else cell.text(partial(number, signed=signed))


def _held_against(record: BenchmarkRecord, board: DatasetBoard, name: str) -> tuple[Differences, str | None]:
    """Give the differences of a line and to what: a fine-tuned run is held against the encoder that it began with."""
    if name in board.fine_tuned:
        return board.fine_tuned[name], board.began_with[name]
    apart = board.to_reference.get(name, {})
    return apart, f"{record.plan.reference}/{name.rpartition('/')[2]}" if apart else ""


def flat_rows(record: BenchmarkRecord) -> list[dict[str, Any]]:
    """Give one row a line of every table of a dataset and metric, with unrounded numbers."""
    found = []
    for board in record.boards.values():
        for line in board.lines:
            for metric, measured in line.metrics.items():
                apart, other = _held_against(record, board, line.name)
                told: dict[str, Any] = {"dataset": board.dataset, "task": board.task, "split": board.split}
                told |= {"name": line.name, "kind": line.kind, "run": line.run, "metric": metric}
                told |= {part: getattr(measured, part) for part in ("value", "low", "high")}
                told |= {"absent": measured.absent or measured.too_few, "reference": other}
                minus, parts = apart.get(metric, Estimate()), ("value", "low", "high", "p", "holm")
                found.append(told | {f"minus_reference_{part}": getattr(minus, part) for part in parts})
    found += [
        {"dataset": gap.dataset, "task": gap.task, "name": _gap_name(gap), "kind": "gap", "absent": gap.reason}
        for gap in record.gaps
    ]
    return found
