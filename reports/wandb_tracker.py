"""W&B as a tracker: the only module that knows it. With WANDB_MODE=offline nothing leaves this machine.

Who is asked, and as whom, is W&B's own business (WANDB_MODE, WANDB_API_KEY, WANDB_BASE_URL, ``wandb login``). The name
of this machine, its user, its packages and its code are not told.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embeddings_store.errors import RunError
from embeddings_store.extras import require
from reports.tracking import MirroredModel, MirroredRun

WHOLE = "octprobe-whole"
"""An empty file in a run's local folder, written last: only a whole copy counts."""

ID_LETTERS = 32
METRIC_COLUMNS = ("metric", "value", "low", "high")
TRIAL_COLUMNS = ("trial", "state", "value")
RESEARCH_ONLY = "Research use only, not for clinical decisions."
QUIET = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


class WandbTracker:
    """Copies runs into one W&B project; folder/wandb holds a folder of each. Half a copy is made again."""

    def __init__(self, folder: Path, project: str) -> None:
        """Name the folder of W&B's local files, and the project. Raises: UsageError where wandb is not installed."""
        self._folder, self._project = folder.resolve(), project
        with _quiet_wandb(self._folder):
            pass

    def has(self, key: str) -> bool:
        """Say whether a whole copy was made from this folder."""
        return any((copy / WHOLE).exists() for copy in self._copies(key))

    def keep(self, run: MirroredRun) -> None:
        """Store a copy; what an interrupted mirror left of it in this folder is deleted first."""
        for half in self._copies(run.key):
            shutil.rmtree(half)
        with _quiet_wandb(self._folder) as wandb:
            # Where it cannot write, W&B would turn to another place without a word.
            (self._folder / "wandb").mkdir(parents=True, exist_ok=True)
            config = {**run.parameters, **run.tags, "data": asdict(run.data) if run.data else None}
            with wandb.init(
                project=self._project,
                id=run.key[:ID_LETTERS],
                name=run.name,
                config=config,
                notes=RESEARCH_ONLY,
                settings=_settings(wandb, self._folder),
            ) as copy:
                _fill(wandb, copy, run)
                local = Path(copy.settings.sync_dir)
            wandb.teardown()  # ends its service: only then is everything on the disk, or sent
        (local / WHOLE).touch()

    def _copies(self, key: str) -> list[Path]:
        return sorted((self._folder / "wandb").glob(f"*run-*-{key[:ID_LETTERS]}"))


def _fill(wandb: Any, copy: Any, run: MirroredRun) -> None:
    """Tell W&B everything: numbers in the summary, intervals and trials as tables, record and pages as files."""
    copy.summary.update(dict(run.metrics))
    copy.log({"metrics": wandb.Table(columns=list(METRIC_COLUMNS), data=_metric_rows(run))}, step=0)
    if run.trials:
        copy.log({"trials": _trial_table(wandb, run)}, step=0)
    files = wandb.Artifact(f"run-{run.key[:12]}", type="run", description=RESEARCH_ONLY)
    for path in run.artifacts:
        files.add_file(str(path), name=path.name)
    copy.log_artifact(files)
    if run.model is not None:
        copy.log_artifact(_model(wandb, run.model))


def _metric_rows(run: MirroredRun) -> list[list[Any]]:
    """Give one line a metric, with the bounds of its interval, None where it has none."""
    names = [name for name in run.metrics if not name.endswith(("/low", "/high"))]
    bounds = ("", "/low", "/high")
    return [[name, *(run.metrics.get(name + bound) for bound in bounds)] for name in names]


def _trial_table(wandb: Any, run: MirroredRun) -> Any:
    """Lay the trials of the search out: what each chose, as far as any of them did, and its value."""
    chosen = sorted({name for trial in run.trials for name in trial.parameters})
    rows = [
        [trial.number, trial.state, trial.value, *(trial.parameters.get(name) for name in chosen)]
        for trial in run.trials
    ]
    return wandb.Table(columns=[*TRIAL_COLUMNS, *chosen], data=rows)


def _model(wandb: Any, model: MirroredModel) -> Any:
    """Keep a run folder as a model, without pickle: load_run and load_model of classify read it."""
    told = {"features": model.features, "classes": list(model.classes)}
    kept = wandb.Artifact(model.name, type="model", description=RESEARCH_ONLY, metadata=told)
    kept.add_dir(str(model.folder))
    return kept


def _settings(wandb: Any, folder: Path) -> Any:
    """Tell of this machine no more than a run has to."""
    return wandb.Settings(
        root_dir=str(folder),
        host="not told",
        program="reports track",
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


@contextmanager
def _quiet_wandb(folder: Path) -> Iterator[Any]:
    """Import W&B without its reports of errors, keep its files below the folder, and map its errors."""
    for name, value in {**QUIET, "WANDB_DATA_DIR": str(folder), "WANDB_CACHE_DIR": str(folder / "wandb")}.items():
        os.environ.setdefault(name, value)
    wandb = require("wandb", "--to wandb, instead of --to mlflow")
    try:
        yield wandb
    except (wandb.errors.Error, OSError) as error:
        first = str(error).splitlines()[0]
        raise RunError(f"W&B: expected a folder and a server that can be written, got: {first}") from error
