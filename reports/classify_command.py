"""Console script ``classify``: the verbs of classify, and benchmark, which needs extraction and pages, too."""

import typer

from classify.cli import app
from embeddings_store.command_line import verb
from embeddings_store.shared_options import Json
from embeddings_store.terminal.console import emit_json, run_command, show
from reports.benchmark.options import BenchmarkOptions

__all__ = ["app", "main"]


@verb(app)
def benchmark(options: BenchmarkOptions, *, json: Json = False) -> None:
    """Compare encoders over datasets by a plan: stores, runs, and one page with the tables of a paper.

    Example: classify benchmark plan.yaml --dry-run

    What is there already is not made again, so the same command goes on after a stop, and a changed plan makes only
    what the change touches. A cell that cannot be is named in the tables, with its reason. See docs/benchmark.md.
    """
    from classify.run.typed_record import as_json
    from reports.benchmark.claim import claim_of
    from reports.benchmark.record import DryRun
    from reports.benchmark.run import benchmark as run

    done = run(options)
    if isinstance(done.record, DryRun):
        show(done.record.said)
    else:
        for gap in done.record.gaps:
            show(f"absent: {gap.dataset} {gap.task} {gap.variant} {gap.head}: {gap.reason}")
        show(claim_of(done.record))
        show(f"page: {done.page}")
    if json:
        emit_json(as_json(done.record) | {"path": str(done.page)})
    if done.failed_volumes:
        raise typer.Exit(3)


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)


if __name__ == "__main__":
    main()
