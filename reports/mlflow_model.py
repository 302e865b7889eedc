"""What MLflow runs when it loads a registered model ("models from code"): no pickle, only this file and plain arrays.

Input: a table with one column a feature, in the order of the run's features, and "protocol". Output: a column a class.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from classify.fitting.model import load_model
from classify.run.folder import load_run

PROTOCOL = "protocol"


class ProbeModel(PythonModel):
    """A saved run as a function of feature rows. Research use only, not for clinical decisions."""

    def load_context(self, context: Any) -> None:
        """Read the run folder that was kept with the model."""
        run = load_run(Path(context.artifacts["run"]))
        self.model = load_model(run)
        self.classes = list(run.record.asked.classes)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Give uncalibrated probabilities of each row, one column a class; a class never seen has 0."""
        protocol = model_input[PROTOCOL].to_numpy(str)
        raw = model_input.drop(columns=PROTOCOL).to_numpy(np.float32)
        found = np.zeros((len(raw), len(self.classes)))
        found[:, self.model.head.classes_] = self.model.head.predict_proba(
            self.model.standardiser.transform(raw, protocol)
        )
        return pd.DataFrame(found, columns=self.classes)


set_model(ProbeModel())
