"""Public datasets by name: each file here is one, and holds its DATASET; a file more is a dataset more."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extract.layouts.dataset import Dataset


def dataset_names() -> tuple[str, ...]:
    """Name the datasets, in order, without loading them."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


@cache
def _load(name: str) -> "Dataset":
    dataset: Dataset = import_module(f"{__name__}.{name}").DATASET
    return dataset


def load_datasets() -> dict[str, "Dataset"]:
    """Load every dataset, by name."""
    return {name: _load(name) for name in dataset_names()}
