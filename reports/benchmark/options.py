"""The options of classify benchmark: what is no part of a plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from embeddings_store.command_line import Options
from embeddings_store.shared_options import COMPUTING, IN_AND_OUT, RESULTS
from extract.encoder_options import DeviceName


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(Options):
    """Which plan, and where its stores, runs and pages go."""

    plan: Annotated[Path, typer.Argument(help="PLAN.yaml: datasets, encoders, heads (see docs/benchmark.md).")]
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of stores, runs and results; give the same one to continue.",
            show_default="named as the plan, next to it",
            rich_help_panel=IN_AND_OUT,
        ),
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what would be done and what it would cost, from a timed sample; nothing of the sample but its "
            "times is kept.",
            rich_help_panel=RESULTS,
        ),
    ] = False
    accept_licence: Annotated[
        tuple[str, ...],
        typer.Option(
            help="An encoder or family whose licence you have read and accept; repeatable.", rich_help_panel=IN_AND_OUT
        ),
    ] = ()
    device: DeviceName = "auto"
    ray: Annotated[
        bool, typer.Option("--ray", help="Spread the cells over Ray (needs the extra ray).", rich_help_panel=COMPUTING)
    ] = False
    ray_address: Annotated[
        str | None,
        typer.Option(help="Address of a running Ray cluster; none: this machine.", rich_help_panel=COMPUTING),
    ] = None
    command: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        """Return where everything goes."""
        return self.out or self.plan.parent / f"{self.plan.stem}-benchmark"
