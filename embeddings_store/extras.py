"""What the base install leaves out: which extra of octprobe brings a package, and one line where it is missing."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from embeddings_store.errors import OctProbeError, UsageError

EXTRA_OF = {
    "h5py": "vendor",
    "highdicom": "report",
    "jax": "tpu",
    "jinja2": "report",
    "libtpu": "tpu",
    "matplotlib": "report",
    "mlflow": "mlflow",
    "nibabel": "vendor",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "ray": "ray",
    "shap": "report",
    "torch_xla": "tpu",
    "wandb": "wandb",
}
"""Of each package that is not of the base: the extra that names it in pyproject.toml."""


def describe_missing(error: ImportError) -> str | None:
    """Return one line that names the extra, None where what is missing is no part of an extra."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF:
        return None
    return f"{package} is not installed: pip install 'octprobe[{EXTRA_OF[package]}]'"


def require(package: str, what: str, fault: type[OctProbeError] = UsageError) -> ModuleType:
    """Import a package of an extra. what: names the thing that needs it. Raises: fault, naming the extra."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if (missing := describe_missing(error)) is None:
            raise
        raise fault(f"{what}: {missing}") from error


def require_installed(package: str, what: str) -> None:
    """Look for a package of an extra without importing it. Raises: UsageError, naming the extra."""
    if find_spec(package) is None:
        raise UsageError(f"{what}: {describe_missing(ModuleNotFoundError(name=package))}")
