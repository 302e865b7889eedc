"""MLflow as a tracker: a local sqlite file is enough, no server; nothing but what was pointed at is reached."""

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from classify.run.record import RECORD
from classify.run.summary import RESEARCH_ONLY
from finetune.tracking.mlflow_client import BATCH, batches, keep_parameters, mlflow_name, open_experiment, quiet_mlflow
from finetune.tracking.mlflow_file import drop_artifacts
from reports.tracking import MirroredData, MirroredModel, MirroredRun, MirroredTrial

KEY_TAG = "octprobe.record_sha256"
WHOLE_TAG = "octprobe.whole"
PARENT_TAG = "mlflow.parentRunId"
PROTOCOL_COLUMN = "protocol"
MODEL_CODE = Path(__file__).parent / "mlflow_model.py"


class MlflowTracker:
    """Copies runs into one MLflow experiment. A copy counts once its last tag stands; half a copy is deleted."""

    def __init__(self, tracking_uri: str, experiment: str) -> None:
        """Open the tracking store, and the experiment in it. Raises RunError when it can't be used."""
        self._client, self._experiment = open_experiment(tracking_uri, experiment)

    def has(self, key: str) -> bool:
        """Say whether a whole copy is there, with its files where MLflow looks for them."""
        copies = self._find(f"tags.`{KEY_TAG}` = '{key}' and tags.`{WHOLE_TAG}` = 'true'")
        with quiet_mlflow():
            return any(self._holds_record(copy.info.run_id) for copy in copies)

    def _holds_record(self, copy_id: str) -> bool:
        return any(artifact.path == RECORD for artifact in self._client.list_artifacts(copy_id))

    def keep(self, run: MirroredRun) -> None:
        """Store a copy; what an interrupted mirror left of it before is deleted first."""
        with quiet_mlflow() as mlflow:
            for half in self._find(f"tags.`{KEY_TAG}` = '{run.key}'"):
                self._drop(half.info)
            copy = self._client.create_run(
                self._experiment, start_time=run.started_ms, run_name=run.name, tags={KEY_TAG: run.key, **run.tags}
            )
            copy_id = copy.info.run_id
            entities = mlflow.entities
            keep_parameters(self._client, entities, copy_id, run.parameters)
            for numbers in batches(run.metrics.items()):
                metrics = [entities.Metric(mlflow_name(name), value, run.ended_ms or 0, 0) for name, value in numbers]
                self._client.log_batch(copy_id, metrics=metrics)
            for path in run.artifacts:
                self._client.log_artifact(copy_id, str(path))
            if run.data is not None:
                self._client.log_inputs(copy_id, datasets=[_dataset(entities, run.data)])
            for trial in run.trials:
                self._keep_trial(entities, copy_id, run, trial)
            if run.model is not None:
                self._register(mlflow, copy_id, run.model)
            self._client.set_terminated(copy_id, end_time=run.ended_ms)
            self._client.set_tag(copy_id, WHOLE_TAG, "true")

    def _drop(self, half: Any) -> None:
        """Delete half a copy with all that hangs on it; the run itself last, by which it is found."""
        for known in self._client.search_model_versions(f"run_id = '{half.run_id}'"):
            self._client.delete_model_version(known.name, known.version)
        for trial in self._find(f"tags.`{PARENT_TAG}` = '{half.run_id}'"):
            self._client.delete_run(trial.info.run_id)
        drop_artifacts(half.artifact_uri, half.run_id)
        self._client.delete_run(half.run_id)

    def _keep_trial(self, entities: Any, parent_id: str, run: MirroredRun, trial: MirroredTrial) -> None:
        """Nest one trial below its run: one call for all that it holds. When it ran is known of the run alone."""
        tags = {PARENT_TAG: parent_id, "octprobe.trial": str(trial.number), "octprobe.state": trial.state}
        name = f"trial {trial.number}"
        nested = self._client.create_run(self._experiment, start_time=run.started_ms, run_name=name, tags=tags)
        metrics = [] if trial.value is None else [entities.Metric("value", trial.value, run.ended_ms or 0, 0)]
        params = [entities.Param(mlflow_name(key), value) for key, value in trial.parameters.items()]
        self._client.log_batch(nested.info.run_id, metrics=metrics, params=params[:BATCH])
        self._client.set_terminated(nested.info.run_id, end_time=run.ended_ms)

    def _register(self, mlflow: Any, copy_id: str, model: MirroredModel) -> None:
        """Put the run's head into the registry as models from code, with its signature."""
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, DataType, Schema

        inputs: list[Any] = [ColSpec(DataType.float, f"feature_{place:04d}") for place in range(model.features)]
        inputs.append(ColSpec(DataType.string, PROTOCOL_COLUMN))
        outputs = Schema([ColSpec(DataType.double, name) for name in model.classes])
        with TemporaryDirectory(dir=model.folder.parent) as aside:  # with what is swept after a kill
            folder = Path(aside) / "model"
            mlflow.pyfunc.save_model(
                path=folder,
                python_model=str(MODEL_CODE),
                artifacts={"run": str(model.folder)},
                signature=ModelSignature(inputs=Schema(inputs), outputs=outputs),
                pip_requirements=[f"octprobe=={version('octprobe')}"],
            )
            self._client.log_artifacts(copy_id, str(folder), "model")
        if not self._client.search_registered_models(f"name = '{mlflow_name(model.name)}'"):
            self._client.create_registered_model(mlflow_name(model.name), description=RESEARCH_ONLY)
        self._client.create_model_version(mlflow_name(model.name), f"runs:/{copy_id}/model", run_id=copy_id)

    def _find(self, condition: str) -> list[Any]:
        with quiet_mlflow():
            return list(self._client.search_runs([self._experiment], condition))


def _dataset(entities: Any, data: MirroredData) -> Any:
    kept = entities.Dataset(name=data.name, digest=data.digest, source_type="octprobe", source=data.source)
    return entities.DatasetInput(kept, tags=[entities.InputTag("mlflow.data.context", "training")])
