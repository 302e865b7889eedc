"""Console script ``finetune``: parses and calls; heavy imports live inside the commands."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embeddings_store.command_line import Options, Text, verb
from embeddings_store.shared_options import Json, Seed
from embeddings_store.terminal.console import emit_json, new_app, run_command, show
from extract.encoder_options import parse_image_size
from finetune.options import Changes, FinetuneOptions, LookOptions, RecipeName, TuneOptions

if TYPE_CHECKING:
    from finetune.train import Finetuned

HELP = """Train the encoder end to end, in stages, on the volumes of a bucket, and judge it honestly. Research use only.

    Keeps what does best on val and writes a run folder; test stays locked.

    Example: finetune --checkpoint best.pt --bucket eye-dataset --participants participants.tsv --stages head,last

    The same command goes on where it was killed. On several GPUs, a process for each takes its share of every batch.
    Exit codes: 0 done, 1 the run failed, 2 wrong usage, 3 done, but some volumes could not be used.
"""

app = new_app(HELP)


@verb(app, main=True)
def finetune(options: FinetuneOptions, *, json: Json = False) -> None:
    """Train; see HELP."""
    from finetune.parallel.launch import gpus_to_start, start_processes
    from finetune.parallel.processes import open_processes, require_several_processes
    from finetune.train import finetune as run_finetune

    options.require_source()
    if len(gpus := gpus_to_start(options.device, options.gpus)) > 1 and options.needs_volumes:
        raise typer.Exit(start_processes(gpus, options.command[1:]))
    if options.parallel is not None:
        require_several_processes("--parallel")
    done = run_finetune(options, processes=open_processes(options.device))
    if done is not None:
        _finish(done, as_json=json)


def _finish(done: "Finetuned", *, as_json: bool) -> None:
    from classify.run.summary import print_summary
    from finetune.run.record import OPTIMISTIC

    print_summary(done.record)
    show(f"stages: {done.record.fitted.parameters['stages_compared']['note']}")
    show(OPTIMISTIC)
    _tell_failures(done.failures)
    show(f"run: {done.folder}")
    if as_json:
        emit_json(done.record.to_dict() | {"path": str(done.folder), "errors": done.failures})
    if done.failures:
        raise typer.Exit(3)


def _tell_failures(failures: Mapping[str, int]) -> None:
    for error, count in sorted(failures.items()):
        show(f"not used: {count:,} volumes with {error}")


@verb(app)
def evaluate(options: LookOptions, *, json: Json = False) -> None:
    """Evaluate a finished run on the locked test split; every evaluation is counted. Runs in one process.

    Example: finetune evaluate --run 20261122-150301-finetune-four-class-0a1b2c --bucket eye-dataset
    --participants participants.tsv --split test

    Exit codes: as for training; 3: done, but some volumes of test could not be used.
    """
    from classify.run.summary import print_evaluation
    from finetune.evaluate import evaluate as look
    from finetune.parallel.processes import require_one_process

    require_one_process(options.device)
    done = look(options)
    print_evaluation(done.record, done.looks)
    failures = done.record.evaluations[-1]["failures"]
    _tell_failures(failures)
    show(f"run: {done.folder}")
    if json:
        emit_json(done.record.to_dict() | {"path": str(done.folder)})
    if failures:
        raise typer.Exit(3)


@verb(app)
def tune(options: TuneOptions, *, json: Json = False) -> None:
    """Search rates, batch size, head and depth on held-back participants of train; val and test are not read.

    Example: finetune tune --study study --trials 30 --checkpoint best.pt --bucket eye-dataset
    --participants participants.tsv

    The same command goes on where it was stopped, by either engine. On a cluster, all machines must see --runs.
    """
    from classify.run.typed_record import as_json
    from finetune.tune import tune as search

    found = search(options)
    show(f"best of {found.record.trials} trials: {found.record.best.value:.3f}; use --config {options.study}/best.yaml")
    if json:
        emit_json(as_json(found.record) | {"path": str(found.folder)})


@dataclass(frozen=True, kw_only=True)
class MontageOptions(Options):
    """What is drawn, and where to."""

    files: Annotated[
        tuple[Path, ...], typer.Argument(help="A multi-frame OCT DICOM file; a second one is mixed into it.")
    ]
    out: Annotated[Path, typer.Option(help="Where the picture goes (.png).")]
    config: RecipeName = None
    change: Changes = ()
    image_size: Annotated[
        tuple[int, int, int], Text(parse_image_size, "64,384,384"), typer.Option(help="D,H,W in voxels.")
    ] = (64, 384, 384)
    seed: Seed = 0


@verb(app)
def montage(options: MontageOptions) -> None:
    """Draw what augmentation does to a volume: each change alone, then volumes as training sees them.

    Example: finetune montage scan.dcm --out montage.png
    """
    from finetune.data.augment.look import draw_files
    from finetune.recipe.load import load_config

    augment = load_config(options.config, changes=options.change).augment
    draw_files(list(options.files), options.out, augment, image_size=options.image_size, seed=options.seed)
    show(f"wrote {options.out}")


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)


if __name__ == "__main__":
    main()
