"""The questions that a probe may be asked: which study groups make which class, in clinical order."""

from collections.abc import Mapping
from dataclasses import dataclass

from embeddings_store.errors import UsageError

HEALTHY = "healthy"
LIFESTYLE = "pre_diabetes_lifestyle_controlled"
ORAL = "oral_medication_and_or_non_insulin_injectable_medication_controlled"
INSULIN = "insulin_dependent"

STUDY_GROUPS = (HEALTHY, LIFESTYLE, ORAL, INSULIN)
"""study_group of participants.tsv, in clinical order."""


@dataclass(frozen=True, slots=True)
class Task:
    """A question: its classes in clinical order, and the class number of each study group."""

    name: str
    classes: tuple[str, ...]
    class_of: Mapping[str, int]


TASKS = {
    task.name: task
    for task in (
        Task("four-class", STUDY_GROUPS, {HEALTHY: 0, LIFESTYLE: 1, ORAL: 2, INSULIN: 3}),
        Task("healthy-vs-rest", ("healthy", "rest"), {HEALTHY: 0, LIFESTYLE: 1, ORAL: 1, INSULIN: 1}),
        Task("medicated-vs-not", ("not_medicated", "medicated"), {HEALTHY: 0, LIFESTYLE: 0, ORAL: 1, INSULIN: 1}),
        Task("insulin-vs-rest", ("rest", INSULIN), {HEALTHY: 0, LIFESTYLE: 0, ORAL: 0, INSULIN: 1}),
    )
}


def find_task(name: str) -> Task:
    """Look a task up by its name; an unknown one is a UsageError that lists them."""
    if name not in TASKS:
        raise UsageError(f"--task: expected one of {', '.join(TASKS)}, got {name!r}")
    return TASKS[name]
