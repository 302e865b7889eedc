"""oct-phantom: make a bucket of synthetic OCT."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from embeddings_store.command_line import Options, Text, verb
from embeddings_store.errors import UsageError
from embeddings_store.extras import require
from embeddings_store.machine import usable_cores
from embeddings_store.shared_options import COMPUTING, IN_AND_OUT, Json, Seed
from embeddings_store.terminal.console import emit_json, is_watched, new_app, run_command, show

if TYPE_CHECKING:
    from extract.phantom.plan import Plan

app = new_app("Make a SYNTHETIC PHANTOM bucket: AI-READI-shaped, no person in it. Same seed, same bytes.")

# Headings of the groups of options in --help.
COHORT = "Participants and scans"
PLANTED = "Planted: effects, confounds, broken files"

SYNTAX_HELP = "Transfer syntax, all lossless: explicit, implicit, big-endian, deflated, rle, j2k, jpegls."
BREAK_HELP = (
    "Add broken objects, a list or all: truncated-native, truncated-encapsulated, no-pixeldata, no-offset-table, "
    "empty-pixelmeasures, cirrus-thickness, per-frame-spacing, frame-count-mismatch, duplicate-scan, "
    "flag-without-folder, folder-without-flag, junk."
)
MEASUREMENTS_HELP = "Write clinical_data/measurement.csv: synthetic HbA1c (tied to the class) and BMI in OMOP shape."
SECTOR_HELP = "Confine the effect to one ETDRS sector: centre, inner-superior, inner-nasal, ..., outer-temporal."
CONFOUND_HELP = (
    "Tie the label to the pictures without biology. site: classes gather at sites (80 percent), and pictures of UW are "
    "2.5 dB brighter, of UAB 2.5 dB darker. device: the two lower classes lack the second half of the devices, "
    "the two higher ones the first half (seven in ten participants)."
)


def parse_list(text: str) -> tuple[str, ...]:
    """Read words with commas between."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


@dataclass(frozen=True, kw_only=True)
class PhantomOptions(Options):
    """What is made, and where to."""

    out: Annotated[Path, typer.Option(help="New or empty folder: becomes the root of the bucket.")]
    participants: Annotated[int, typer.Option(help="How many, spread evenly over UW, UCSD and UAB.")]
    devices: Annotated[
        tuple[str, ...],
        Text(parse_list),
        typer.Option(help="Comma-separated.", show_default="all four", rich_help_panel=COHORT),
    ] = ()
    protocols: Annotated[
        tuple[str, ...],
        Text(parse_list),
        typer.Option(
            help="Comma-separated, or all.", show_default="one macula cube per device", rich_help_panel=COHORT
        ),
    ] = ()
    scale: Annotated[
        float, typer.Option(help="Shrink rows, columns and frames; the field of view stays.", rich_help_panel=COHORT)
    ] = 1.0
    syntax: Annotated[str, typer.Option(help=SYNTAX_HELP, rich_help_panel=COHORT)] = "explicit"
    effect: Annotated[
        float,
        typer.Option(help="Thin GCL + RNFL by this many um per class step; 0: no effect.", rich_help_panel=PLANTED),
    ] = 0.0
    effect_sector: Annotated[str | None, typer.Option(help=SECTOR_HELP, rich_help_panel=PLANTED)] = None
    confound: Annotated[str | None, typer.Option(help=CONFOUND_HELP, rich_help_panel=PLANTED)] = None
    breaks: Annotated[
        tuple[str, ...], Text(parse_list), typer.Option("--break", help=BREAK_HELP, rich_help_panel=PLANTED)
    ] = ()
    manifest: Annotated[
        bool,
        typer.Option("--manifest/--no-manifest", help="Write retinal_oct/manifest.tsv.", rich_help_panel=COHORT),
    ] = True
    measurements: Annotated[bool, typer.Option(help=MEASUREMENTS_HELP, rich_help_panel=COHORT)] = False
    schema: Annotated[
        str, typer.Option(help="v2 (participant_id) or v3 (person_id, some doubled tokens).", rich_help_panel=COHORT)
    ] = "v2"
    montage: Annotated[
        Path | None, typer.Option(help="Also draw a PNG of what was made.", rich_help_panel=IN_AND_OUT)
    ] = None
    seed: Seed = 0
    workers: Annotated[
        int,
        typer.Option(
            help="Processes; 0: one per processor, fewer for a small bucket. Never changes a byte.",
            min=0,
            rich_help_panel=COMPUTING,
        ),
    ] = 0


@verb(app)
def phantom(options: PhantomOptions, *, json: Json = False) -> None:
    """Make a bucket of synthetic OCT with participants.tsv, manifest.tsv and DICOM volumes.

    Example: oct-phantom --out bucket --participants 60 --scale 0.2 --effect 12 --seed 7
    """
    from extract.phantom.broken import KINDS
    from extract.phantom.bucket import count_workers
    from extract.phantom.plan import parse_plan

    plan = parse_plan(
        participants=options.participants, devices=options.devices, protocols=options.protocols, scale=options.scale,
        syntax=options.syntax, effect_um=options.effect, effect_sector=options.effect_sector,
        confound=options.confound, schema=options.schema, manifest=options.manifest, breaks=options.breaks,
        kinds=tuple(KINDS), seed=options.seed, measurements=options.measurements,
    )  # fmt: skip
    out, montage = options.out, options.montage
    if montage is not None and not montage.parent.is_dir():
        raise UsageError(f"--montage: expected an existing folder for the picture, got {montage.parent}; make it first")
    if montage is not None:
        require("matplotlib", "--montage")
    summary = _generate(plan, out, options.workers or count_workers(plan, usable_cores()))
    if montage is not None:
        from extract.phantom.montage import write_montage

        write_montage(out, plan, montage)
    show(f"SYNTHETIC PHANTOM: {summary['files']} scans, {summary['bytes'] / 1e6:.1f} MB in {out}")
    if json:
        emit_json(summary)


def _generate(plan: "Plan", out: Path, workers: int) -> dict[str, Any]:
    """Generate with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from extract.phantom.bucket import generate

    with Progress(console=Console(stderr=True), disable=not is_watched(), transient=True) as progress:
        task = progress.add_task("participants", total=plan.participants)
        return generate(plan, out, workers, lambda: progress.advance(task)).to_dict()


def main() -> NoReturn:
    """Run the command line."""
    run_command(app)


if __name__ == "__main__":
    main()
