"""The verb ``classify benchmark``: a plan's datasets x encoders x heads, and the tables of a paper. Top to bottom.

State is stores and runs alone: what is there is found again, so that a run that was killed goes on, and a plan that was
changed makes only what the change touches.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from classify.comparing.cells import find_known_runs
from classify.errors import CohortError
from classify.features.stores import ReadStore, reader_at
from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import say
from extract.encoder.families import FAMILIES
from reports.benchmark.cells import RUNS, Made, fill_stores, make_cells, open_test
from reports.benchmark.cost import CostLine, cost_lines, describe_dry_run, hours_of, sample_all
from reports.benchmark.files import write_files
from reports.benchmark.given import given_cells, open_given
from reports.benchmark.look import Gap, Looked, look_at
from reports.benchmark.options import BenchmarkOptions
from reports.benchmark.plan import Plan, read_plan, require_known
from reports.benchmark.record import BenchmarkRecord, DryRun, PlanFacts, PlanRead
from reports.benchmark.results import describe_cells, make_boards, over_datasets, ranks_over_datasets
from reports.benchmark.sources import count_failed, describe_sources, notes_of
from reports.benchmark.spread import require_ray, spread_cells
from reports.benchmark.transport import transport


@dataclass(frozen=True)
class Benchmarked:
    """What came of a plan, and its page; of a dry run the folder that would be filled. failed_volumes: error rows."""

    record: BenchmarkRecord | DryRun
    page: Path
    failed_volumes: int = 0


def benchmark(
    options: BenchmarkOptions,
    *,
    clock: Callable[[], datetime] | None = None,
    read: ReadStore | None = None,
    tell: Callable[[str], None] = say,
) -> Benchmarked:
    """Make every cell of a plan that is not there yet, and write the result below --out.

    Raises: UsageError for a plan that cannot be, before anything is encoded; BucketError, StoreError, RunFolderError.
    A cell that cannot be is a gap with its reason.
    """
    if options.ray:
        require_ray()
    elif options.ray_address is not None:
        raise UsageError("--ray-address: only --ray goes to a Ray cluster; add it, or leave the address out")
    plan, clock = read_plan(options.plan.absolute()), clock or partial(datetime.now, UTC)
    out = options.place.absolute()  # as workers of a cluster see it
    require_known(options.accept_licence, licensed_names(plan), "--accept-licence")
    given = open_given(plan)
    looked, gaps = look_at(plan, out, accepted=options.accept_licence, device=options.device, tell=tell)
    cost = cost_lines(looked, sample_all(looked, out, tell), plan.encoded.get("usd_per_hour"))
    if options.dry_run:
        return _dry(plan, looked, cost, gaps, out)
    read = read or reader_at(None)
    accounts = fill_stores(looked, tell)
    if options.ray:
        spread_cells(plan, looked, out / RUNS, options.ray_address, tell)
    made: list[Made] = []
    sort_out(make_cells(plan, looked, out / RUNS, clock, read, tell), made, gaps)
    sort_out(list(given_cells(plan, given, made)), made, gaps)
    if not made:
        first = next((one for one in gaps if one.task), gaps[0])
        raise CohortError(f"benchmark: no cell could be made; the first one: {first.reason}")
    by_name = {one.dataset.name: one for one in looked}
    split = "test" if plan.judge == "test" else None
    if split:
        judged, made = [open_test(plan, by_name[one.dataset], one, clock, read) for one in made], []
        sort_out(judged, made, gaps)
    boards, draws = make_boards(plan, made, split)
    record = BenchmarkRecord(
        created=clock().isoformat(timespec="seconds"),
        command=list(options.command),
        plan=PlanFacts(plan.name, plan.digest, plan.reference, plan.judge),
        phantom=any(one.cell.run.record.asked.phantom for one in made),
        sources=describe_sources(looked, made),
        notes=notes_of(plan, made, accounts),
        cells=describe_cells(made),
        gaps=gaps,
        boards=boards,
        over_datasets=over_datasets(plan, boards, draws),
        ranks=ranks_over_datasets(plan, boards, draws),
        transport=list(transport(plan, looked, made, out, clock, read, tell)),
        cost=cost,
    )
    return Benchmarked(record, write_files(record, out), sum(map(count_failed, accounts.values())))


def sort_out(found: Iterable[Made | Gap], made: list[Made], gaps: list[Gap]) -> None:
    """Put cells and gaps into their lists."""
    for one in found:
        if isinstance(one, Gap):
            gaps.append(one)
        else:
            made.append(one)


def licensed_names(plan: Plan) -> list[str]:
    """Name what a licence can be accepted of: the encoders of a plan, and every family."""
    return [*dict.fromkeys(one.encoder for one in plan.variants), *FAMILIES]


def _dry(plan: Plan, looked: Sequence[Looked], cost: list[CostLine], gaps: list[Gap], out: Path) -> Benchmarked:
    """Say what would be done, and what of it is there."""
    cells = sum(len(one.seen) * len(one.dataset.tasks) for one in looked) * len(plan.heads)
    known = sum(len(find_known_runs(out / RUNS / one.dataset.name, lambda _: None)) for one in looked)
    record = DryRun(
        plan=PlanRead(plan.name, plan.digest),
        volumes={one.dataset.name: one.volumes for one in looked},
        cells=cells,
        runs_there=known,
        hours=hours_of(cost),
        cost=cost,
        gaps=gaps,
        said=describe_dry_run(cost, cells, known, gaps),
    )
    return Benchmarked(record, out)
