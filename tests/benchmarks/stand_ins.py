"""Stand-ins for packages that a lent machine lacks: whatever is asked of them is a class that does nothing."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar

PACKAGES = frozenset({
    "boto3", "botocore", "google_crc32c", "joblib", "jpeg_ls", "libjpeg", "lightgbm", "nibabel", "obstore", "openjpeg",
    "optuna", "pandas", "pyarrow", "pydicom", "pylibjpeg", "rle", "safetensors", "sklearn", "zarr",
})  # fmt: skip


class StandIn(ModuleType):
    """A module whose every name is a class that does nothing."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Exception,), {"__class_getitem__": classmethod(lambda cls, _: cls)})
        setattr(self, name, made)
        return made


class Finder(MetaPathFinder, Loader):
    """The last resort of an import."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in PACKAGES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: there is nothing to run."""


def install() -> None:
    """Stand in for what is missing; what is installed is found first."""
    sys.meta_path.append(Finder())
