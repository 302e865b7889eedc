"""W&B as a tracker of finished runs."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from classify.run.summary import RESEARCH_ONLY
from finetune.tracking.wandb_client import quiet_wandb, settings_of
from reports.tracking import MirroredModel, MirroredRun

WHOLE = "octprobe-whole"
"""An empty file in a run's local folder, written last: only a whole copy counts."""

ID_LETTERS = 32
METRIC_COLUMNS = ("metric", "value", "low", "high")
TRIAL_COLUMNS = ("trial", "state", "value")


class WandbTracker:
    """Copies runs into one W&B project; folder/wandb holds a folder of each. Half a copy is made again."""

    def __init__(self, folder: Path, project: str) -> None:
        """Name the folder of W&B's local files, and the project. Raises: UsageError where wandb is not installed."""
        self._folder, self._project = folder.resolve(), project
        with quiet_wandb(self._folder):
            pass

    def has(self, key: str) -> bool:
        """Say whether a whole copy was made from this folder."""
        return any((copy / WHOLE).exists() for copy in self._copies(key))

    def keep(self, run: MirroredRun) -> None:
        """Store a copy; what an interrupted mirror left of it in this folder is deleted first."""
        for half in self._copies(run.key):
            shutil.rmtree(half)
        with quiet_wandb(self._folder) as wandb:
            # Where it cannot write, W&B would turn to another place without a word.
            (self._folder / "wandb").mkdir(parents=True, exist_ok=True)
            config = {**run.parameters, **run.tags, "data": asdict(run.data) if run.data else None}
            with wandb.init(
                project=self._project,
                id=run.key[:ID_LETTERS],
                name=run.name,
                config=config,
                notes=RESEARCH_ONLY,
                settings=settings_of(wandb, self._folder, "reports track"),
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
