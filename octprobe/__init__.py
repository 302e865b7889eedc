"""OCTProbe from Python: everything that is meant to be imported, and stable. Research use only.

Nothing heavy is loaded before it is used. The library prints nothing: its notes go to the logger "octprobe", and
``logging.basicConfig(level=logging.INFO)`` shows them. What is wrong with an input is an OctProbeError of one line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classify.run.folder import Run, load_run
    from embeddings_store.errors import OctProbeError
    from embeddings_store.reader import open_reader as open_store
    from embeddings_store.snapshot import Snapshot, read_snapshot
    from embeddings_store.space import EmbeddingSpace
    from octprobe.scans import encode, load_encoder, preprocess
    from octprobe.verbs import compare, evaluate, extract, predict, probe
    from reports.shap_values import read_explanation

    __version__: str

__all__ = [
    "EmbeddingSpace",
    "OctProbeError",
    "Run",
    "Snapshot",
    "compare",
    "encode",
    "evaluate",
    "extract",
    "load_encoder",
    "load_run",
    "open_store",
    "predict",
    "preprocess",
    "probe",
    "read_explanation",
    "read_snapshot",
]

_HOMES = {
    "EmbeddingSpace": "embeddings_store.space",
    "OctProbeError": "embeddings_store.errors",
    "Run": "classify.run.folder",
    "Snapshot": "embeddings_store.snapshot",
    "compare": "octprobe.verbs",
    "encode": "octprobe.scans",
    "evaluate": "octprobe.verbs",
    "extract": "octprobe.verbs",
    "load_encoder": "octprobe.scans",
    "load_run": "classify.run.folder",
    "open_store": "embeddings_store.reader",
    "predict": "octprobe.verbs",
    "preprocess": "octprobe.scans",
    "probe": "octprobe.verbs",
    "read_explanation": "reports.shap_values",
    "read_snapshot": "embeddings_store.snapshot",
}
_NAMES = {"open_store": "open_reader"}
"""What a name is called in its home, where that differs."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("octprobe")
    if name not in _HOMES:
        raise AttributeError(f"module 'octprobe' has no attribute {name!r}; it has {', '.join(__all__)}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), _NAMES.get(name, name))
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
