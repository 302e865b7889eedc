"""Console script ``reports``: parses and calls; heavy imports live inside the commands."""

from embeddings_store.command_line import Version, verb
from embeddings_store.extras import require_installed
from embeddings_store.shared_options import Json
from embeddings_store.terminal.console import emit_json, new_app, run_command, say, show
from reports.options import CaseOptions, ServeOptions, StudyOptions, TrackOptions

app = new_app("Make pages that can be checked from finished runs, and mirror runs to MLflow or W&B. Research use only.")


@app.callback()
def reports(*, version: Version = False) -> None:
    """Make pages that can be checked from finished runs, and mirror runs to MLflow or W&B. Research use only."""


@verb(app)
def study(options: StudyOptions, *, json: Json = False) -> None:
    """Write one self-contained page over all runs of a task.

    Example: reports study --store ./store --runs ./runs --out ./report
    """
    from reports.encoders import encoder_part
    from reports.study import write_study

    written = write_study(options)
    mark = ["SYNTHETIC PHANTOM: these numbers say nothing about people."] if written.phantom else []
    if untrained := encoder_part(written.runs)["untrained"]:
        mark.append(f"RANDOM WEIGHTS: {untrained}")
    for line in (*written.warnings, *mark, written.headline.claim, f"page: {written.page}"):
        show(line)
    if json:
        emit_json(written.to_record())


@verb(app)
def case(options: CaseOptions, *, json: Json = False) -> None:
    """Write a page per participant: what the model says, whether to trust it here, and where it read evidence.

    Example: reports case --store ./store --runs ./runs --out ./report --bucket ./bucket --participant 1001,4010

    A fine-tuned model reads the volumes again: reports case --runs ./runs --out ./report --bucket ./bucket --run ID
    """
    from reports.case import write_cases
    from reports.runs import LeftOut, say_left_out

    left_out: list[LeftOut] = []
    written = write_cases(options, tell=left_out.append)
    for line in say_left_out(left_out):
        say(line)
    for one in written:
        show(f"case {one.participant}: {one.scans} scans, {one.size_bytes / 1e6:.1f} MB, {one.page}")
    if json:
        cases = [one.to_record() for one in written]
        emit_json({"cases": cases, "runs_left_out": [one.to_record() for one in left_out]})


@verb(app)
def serve(options: ServeOptions) -> None:
    """Serve a read-only dashboard of runs and pages until Ctrl-C.

    Example: reports serve --runs ./runs --pages ./report
    """
    from contextlib import suppress
    from secrets import token_bytes

    from reports.serve import Dashboard, new_server

    board = Dashboard(options.runs, options.pages, token_bytes(16), options.mlflow_url)
    with new_server(board, options.host, options.port) as server, suppress(KeyboardInterrupt):
        show(f"http://{options.host}:{server.server_port}/ (Ctrl-C ends it)")
        server.serve_forever()


@verb(app)
def track(options: TrackOptions, *, json: Json = False) -> None:
    """Mirror finished runs to MLflow or W&B; a run that is there already is not doubled.

    Example: WANDB_MODE=offline reports track --runs ./runs --to wandb --figures ./report
    """
    require_installed(options.to, f"--to {options.to}")  # its extra brings what the pages need, too
    from reports.trackers import open_tracker
    from reports.tracking import mirror_runs, say_mirrored

    with open_tracker(options.to, options.place, options.experiment) as tracker:
        mirrored = mirror_runs(
            options.runs, tracker, page_folder=options.figures, with_participants=options.with_participants
        )
    show(f"mirrored {len(mirrored.new)} runs; {len(mirrored.kept)} were there already: {options.place}")
    for line in say_mirrored(mirrored, with_participants=options.with_participants):
        show(line)
    if json:
        asked = {"to": options.to, "tracking_uri": options.place, "experiment": options.experiment}
        emit_json(mirrored.to_record() | asked | {"with_participants": options.with_participants})


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)


if __name__ == "__main__":
    main()
