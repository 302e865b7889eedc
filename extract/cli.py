"""The command line `extract-embeddings`: it parses and calls; nobody imports it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from embeddings_store.command_line import Options, verb
from embeddings_store.shared_options import RESULTS, Json
from embeddings_store.terminal.console import emit_json, new_app, run_command, say, show
from extract.doctor.options import DoctorOptions
from extract.file_options import EncodeOptions, PreprocessOptions, PreviewOptions
from extract.options import ExtractOptions
from extract.store_commands import store_commands
from extract.survey.options import DatasetsOptions, SurveyOptions

app = new_app(
    """Encode every OCT volume of a bucket once, into a store that probes and reports read.

    Example: extract-embeddings --bucket eye-dataset --prefix ai-readi/dataset --endpoint-url https://s3.us-west-004.backblazeb2.com
    --checkpoint best.pt --store ./store

    Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or an AWS profile.

    An interrupted run goes on where it stopped: run the same command again.

    Exit codes: 0 done, 1 the run failed, 2 wrong usage, 3 done with error rows (see status), 130 or 143 stopped by
    SIGINT or SIGTERM.
    """
)


@verb(app, main=True)
def extract(
    options: ExtractOptions,
    *,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be read, moved, paid and written, and only time three volumes.",
            rich_help_panel=RESULTS,
        ),
    ] = False,
    min_coverage: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Exit with 3 if less than this fraction of the volumes has a row.",
            rich_help_panel=RESULTS,
        ),
    ] = 0.0,
    json: Json = False,
) -> None:
    """Encode a bucket."""
    from extract.pipeline import extract as run

    if dry_run:
        _show_plan(options, as_json=json)
        return
    _finish(run(options), as_json=json, min_coverage=min_coverage)


def _show_plan(options: ExtractOptions, *, as_json: bool) -> None:
    from extract.dry_run import describe_plan, plan_run

    plan = plan_run(options)
    show(describe_plan(plan))
    if as_json:
        emit_json(plan)


def _finish(summary: dict[str, Any], *, as_json: bool, min_coverage: float) -> None:
    from extract.stop import exit_code_of
    from extract.summary import describe_summary, store_accounts

    show(describe_summary(summary))
    if as_json:
        emit_json(summary)
    stores = store_accounts(summary)
    if summary["stopped_by"] is not None:
        say(f"stopped by {summary['stopped_by']}: run the same command again, and it goes on where it stopped")
        raise typer.Exit(exit_code_of(summary["stopped_by"]))
    coverage = min(_coverage(store, summary["selected"]) for store in stores)
    if coverage < min_coverage:
        say(f"coverage: expected at least {min_coverage:.1%} of the selected volumes, got {coverage:.1%}")
    if any(store["errors"] for store in stores) or coverage < min_coverage:
        raise typer.Exit(3)


def _coverage(store: Mapping[str, Any], selected: int) -> float:
    """Return the fraction of the selected volumes that have a row; the further parts of one are no volumes."""
    volumes = selected - store["parts"]
    return float(store["committed"] / volumes) if volumes else 0.0


@verb(app)
def preview(options: PreviewOptions) -> None:
    """Draw a scan as it is read: three B-scans and the view from the front, with axes named. Look before a long run.

    Example: extract-embeddings preview scan.npz --array oct_bscans --out scan.png
    """
    from extract.preview import preview_file

    show(preview_file(options))


@verb(app)
def preprocess(options: PreprocessOptions) -> None:
    """Write exactly what the encoder would see of one file.

    Example: extract-embeddings preprocess scan.dcm --out scan.npy --image-size 64,384,384
    """
    from extract.single import preprocess_file

    show(preprocess_file(options))


@verb(app)
def encode(options: EncodeOptions) -> None:
    """Write the patch tokens of one file.

    Example: extract-embeddings encode scan.dcm --checkpoint best.pt --out tokens.npy
    """
    from extract.single import encode_file

    show(encode_file(options))


@verb(app)
def doctor(options: DoctorOptions, *, json: Json = False) -> None:
    """Look before a long run: is the encoder trained, the device right, the bucket readable, the store writable?

    Example: extract-embeddings doctor --checkpoint best.pt --bucket eye-dataset --store ./store --device cuda

    Exit codes: 0 nothing failed (warnings included), 1 a check failed, 2 wrong usage.
    """
    from extract.doctor.run import examine
    from extract.doctor.show import print_report

    report = examine(options, say)
    print_report(report)
    if json:
        emit_json(report.to_dict())
    if report.failed:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class EncodersOptions(Options):
    """The cards need none."""


@verb(app)
def encoders(_: EncodersOptions, *, json: Json = False) -> None:
    """List the encoders that can be named: licence, where the file comes from, preset, input, what to cite.

    Example: extract-embeddings encoders --json
    """
    from extract.encoder.cards import cards, describe_cards

    if json:
        emit_json({"encoders": cards()})
    else:
        show(describe_cards(cards()))


@verb(app)
def survey(options: SurveyOptions, *, json: Json = False) -> None:
    """List the scans of a bucket as the table that --scans takes, and say what in it would spoil a study.

    Example: extract-embeddings survey --bucket ./data --layout octdl --checksums --out scans.csv

    Only first bytes of files are read, without --checksums. A survey that was cut off goes on where it stopped. It ends
    with 3 where files cannot be read: each has a line whose notes begin with "error".
    """
    from extract.survey.run import describe_survey
    from extract.survey.run import survey as run

    found = run(options)
    show(describe_survey(found))
    if json:
        emit_json(found)
    if found["unreadable"]:
        raise typer.Exit(3)


@verb(app)
def datasets(options: DatasetsOptions, *, json: Json = False) -> None:
    """Show the public datasets that have a name here: what each is, how to get it, licence, citation, known traps.

    Example: extract-embeddings datasets --json

    Nothing is downloaded.
    """
    from extract.layouts.cards import cards, describe_cards

    found = cards(options.name)
    show(describe_cards(found))
    if json:
        emit_json({"datasets": found})


app.add_typer(store_commands)


def main() -> None:
    """Run extract-embeddings."""
    run_command(app)


if __name__ == "__main__":
    main()
