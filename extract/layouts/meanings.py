"""Questions that mean the same in several public datasets, so that one trained on A can be tested on B."""

from typing import Literal

from embeddings_store.dataset_record import DatasetTask

Level = Literal["participant", "eye", "scan"]


def amd_against_normal(name: str, target: str, level: Level, *, normal: str, amd: tuple[str, ...]) -> DatasetTask:
    """Ask for age-related macular degeneration of any stage against normal; other diseases are left out."""
    groups = {"normal": (normal,), "amd": amd}
    return DatasetTask(name, target, "binary", level, ("normal", "amd"), groups, "amd-normal")


def dme_against_normal(target: str, level: Level, *, normal: str) -> DatasetTask:
    """Ask for diabetic macular oedema against normal."""
    groups = {"normal": (normal,), "dme": ("DME",)}
    return DatasetTask("dme", target, "binary", level, ("normal", "dme"), groups, "dme-normal")


def glaucoma_against_normal(
    target: str, level: Level, normal: tuple[str, ...], glaucoma: tuple[str, ...]
) -> DatasetTask:
    """Ask for glaucoma of any stage against normal."""
    groups = {"normal": normal, "glaucoma": glaucoma}
    return DatasetTask("glaucoma", target, "binary", level, ("normal", "glaucoma"), groups, "glaucoma-normal")
