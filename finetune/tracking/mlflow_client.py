"""MLflow's client: a local sqlite file is enough, no server; nothing but what was pointed at is reached."""

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from typing import Any

from embeddings_store.errors import RunError
from finetune.tracking.mlflow_file import artifacts_beside, lost_artifacts, make_database, sqlite_file

WAY_BACK = (
    "; if {file} is damaged, or was left half-made, move it away and mirror again: the run folders hold everything"
)
MOVED = (
    "--experiment {experiment}: its artifacts are expected in {lost}, which is not there. Was the folder moved? "
    "Move it back, or choose another --experiment, into which all runs are mirrored again"
)
ANSWERS_WITHIN = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # s a request
"""MLflow's own (7 and 120 s) keep silent for two minutes where no server is; what the user set stays."""

BATCH = 100  # mlflow.utils.validation.MAX_PARAMS_TAGS_PER_BATCH


def open_experiment(tracking_uri: str, experiment: str) -> tuple[Any, str]:
    """Open the tracking store, made where there is none, and give a client and the experiment's id. Raises RunError."""
    file = sqlite_file(tracking_uri)
    with quiet_mlflow(WAY_BACK.format(file=file.name) if file else "") as mlflow:
        if file:
            make_database(file)
        client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            raise RunError(f"--experiment {experiment}: it was deleted in MLflow; restore it, or choose another name")
        if found is not None and (lost := lost_artifacts(found.artifact_location, tracking_uri)):
            raise RunError(MOVED.format(experiment=experiment, lost=lost))
        if found is not None:
            return client, str(found.experiment_id)
        return client, str(client.create_experiment(experiment, artifact_location=artifacts_beside(tracking_uri)))


def keep_parameters(client: Any, entities: Any, run_id: str, parameters: Mapping[str, str]) -> None:
    """Store what a run was made with."""
    for part in batches(parameters.items()):
        client.log_batch(run_id, params=[entities.Param(mlflow_name(name), value) for name, value in part])


def mlflow_name(name: str) -> str:
    """Keep the letters that MLflow allows in a name; the others become "_"."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Give as many at a time as MLflow takes at once."""
    left = iter(items)
    while batch := list(islice(left, BATCH)):
        yield batch


@contextmanager
def quiet_mlflow(way_back: str = "") -> Iterator[Any]:
    """Import MLflow without telemetry, its database chatter and other packages' warnings; map its errors.

    way_back: what to do, for the end of the message. Raises: RunError, also where no MLflow answers at the address.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("DO_NOT_TRACK", "true")
    for name, value in ANSWERS_WITHIN.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        import sqlalchemy

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        foreign = (import_module("google.protobuf.json_format").Error, ValueError)  # what answers is no MLflow
        try:
            yield mlflow
        except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError, *foreign) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunError(f"MLflow: expected a tracking store that can be written, got: {first}{way_back}") from error
