"""Console script ``classify``: parses and calls; heavy imports live inside the commands."""

from classify.options import ProbeOptions
from classify.run_options import BaselineOptions, EvaluateOptions
from classify.study_commands import emit_folder, study_commands
from embeddings_store.command_line import Version, verb
from embeddings_store.shared_options import Json
from embeddings_store.terminal.console import emit_json, new_app, run_command, show

app = new_app("Train small heads on stored OCT embeddings, and judge them honestly. Research use only.")


@app.callback()
def classify(*, version: Version = False) -> None:
    """Train small heads on stored OCT embeddings, and judge them honestly. Research use only."""


@verb(app)
def probe(options: ProbeOptions, *, json: Json = False) -> None:
    """Fit one head on train, judge it on val and against the baselines; test stays locked.

    Example: classify probe --model linear --store store --participants participants.tsv --trials 50

    Several targets: --target dr,dme,amd makes a run of each, and one table with p-values adjusted for their number.
    Several encoders: --store a=ADDRESS --store b=ADDRESS puts their vectors side by side, and says what b adds to a.
    """
    from classify.probe import probe as run_probe
    from classify.run.summary import print_summary
    from classify.targets import split_targets

    if split_targets(options.target):
        probe_all(options, json=json)
        return
    done = run_probe(options)
    print_summary(done.record)
    show(f"run: {done.folder}")
    if json:
        emit_json(done.record.to_dict() | {"path": str(done.folder)})


def probe_all(options: ProbeOptions, *, json: bool) -> None:
    """Do classify probe for several targets."""
    from classify.comparing.study_tables import print_targets
    from classify.targets import probe_targets

    done = probe_targets(options)
    print_targets(done.record)
    emit_folder(done, "targets", json=json)


@verb(app)
def evaluate(options: EvaluateOptions, *, json: Json = False) -> None:
    """Evaluate a finished run on the locked test split, or on people of another place; every evaluation is counted.

    Example: classify evaluate --run 20261122-150301-linear-four-class-0a1b2c --store store
    --participants participants.tsv --split test

    Another place: classify evaluate --external --run 20261122-150301-linear-amd-0a1b2c --store there --labels there.csv
    judges everybody there, next to what the run reached at home. Its people must be strangers to the run.
    """
    from classify.evaluate import evaluate as run_evaluate
    from classify.run.external_summary import print_external
    from classify.run.summary import print_evaluation

    done = run_evaluate(options)
    (print_external if options.external else print_evaluation)(done.record, done.looks)
    show(f"run: {done.folder}")
    if json:
        emit_json(done.record.to_dict() | {"path": str(done.folder)})


@verb(app)
def baselines(options: BaselineOptions, *, json: Json = False) -> None:
    """Judge age, site, device and the like alone on val, without any head; writes no run, and test stays locked.

    Example: classify baselines --store store --participants participants.tsv --measurements measurement.csv
    """
    from classify.judge_baselines import judge_baselines
    from classify.run.summary import print_baselines
    from classify.run.typed_record import plain

    judged = judge_baselines(options)
    print_baselines(judged)
    if json:
        emit_json(plain(judged))


app.add_typer(study_commands)


def main() -> None:
    """Run the command line and leave with its exit code."""
    run_command(app)


if __name__ == "__main__":
    main()
