"""SHAP values as the shap package keeps them, and as plain arrays next to a page. Nothing here draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float64

from embeddings_store.errors import RunError, UsageError
from embeddings_store.extras import require
from embeddings_store.numpy_file import read_numpy
from embeddings_store.publish import published
from reports.explain import ShapValues

FILE = "explanation.npz"
_FIELDS = ("values", "base_values", "data", "feature_names", "output_names")


def shap_package() -> Any:
    """Import shap. Raises: RunError, naming the extra, where it is not installed."""
    return require("shap", "what moved the model", RunError)


def as_explanation(
    found: ShapValues, x: Float64[np.ndarray, "n d"], features: Sequence[str], outputs: Sequence[str]
) -> Any:
    """Return SHAP values as the shap package keeps them: values [rows, features, outputs], data [rows, features]."""
    base = np.tile(found.expected, (len(x), 1))
    return shap_package().Explanation(
        found.values.transpose(0, 2, 1), base, x, feature_names=list(features), output_names=list(outputs)
    )


def write_explanation(explained: Any, volumes: Sequence[str], path: Path) -> None:
    """Publish the values, the features and the names of the volumes as plain arrays. Raises: OSError."""
    with published(path, durable=False) as aside, aside.open("wb") as file:
        np.savez_compressed(
            file,
            values=explained.values,
            base_values=explained.base_values,
            data=explained.data,
            feature_names=np.array(explained.feature_names),
            output_names=np.array(explained.output_names),
            volumes=np.array(list(volumes)),
        )


def read_explanation(path: Path | str) -> Any:
    """Open the explanation.npz next to a study page as a shap.Explanation [volumes, features, classes].

    Needs the extra report. Raises: UsageError for a file that is none.

    >>> import octprobe
    >>> from pathlib import Path
    >>> from reports.options import StudyOptions
    >>> from reports.study import write_study
    >>> page = write_study(StudyOptions(store="store", runs=Path("runs"), out=Path("report"))).page
    >>> explanation = octprobe.read_explanation(page.with_name("explanation.npz"))
    >>> explanation.values.shape == (*explanation.data.shape, len(explanation.output_names))
    True
    """
    try:
        saved = read_numpy(Path(path))
        fields = {name: saved[name] for name in _FIELDS}
    except (OSError, ValueError, EOFError, KeyError, IndexError, BadZipFile) as error:
        # NumPy advises to load a strange file unsafely, so its own words are left out.
        reason = error.strerror if isinstance(error, OSError) else "another file, or a part of one"
        raise UsageError(f"{path}: expected the explanation.npz that reports study writes, got: {reason}") from error
    names = {name: fields.pop(name).tolist() for name in ("feature_names", "output_names")}
    return shap_package().Explanation(**fields, **names)
