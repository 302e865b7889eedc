"""The questions that a probe may be asked: which study groups make which class, in clinical order."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classify.run.record import RunRecord
from embeddings_store.errors import UsageError
from embeddings_store.yaml_file import read_mapping

HEALTHY = "healthy"
LIFESTYLE = "pre_diabetes_lifestyle_controlled"
ORAL = "oral_medication_and_or_non_insulin_injectable_medication_controlled"
INSULIN = "insulin_dependent"

STUDY_GROUPS = (HEALTHY, LIFESTYLE, ORAL, INSULIN)
"""study_group of participants.tsv, in clinical order."""

FILE_SUFFIXES = (".yaml", ".yml")
KEYS = ("name", "classes", "groups")
REGRESSIONS = ("age", "hba1c")
"""What is no class: asked of the embedding in every run, in the table of what it knows besides the label."""


@dataclass(frozen=True, slots=True)
class Task:
    """A question: its classes in clinical order, and the class number of each study group.

    A study group that class_of leaves out is no part of the question: its participants are excluded.
    """

    name: str
    classes: tuple[str, ...]
    class_of: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Give the content of a task file; parse_task reads it back."""
        groups = {group: self.classes[number] for group, number in self.class_of.items()}
        return {"name": self.name, "classes": list(self.classes), "groups": groups}


TASKS = {
    task.name: task
    for task in (
        Task("four-class", STUDY_GROUPS, {HEALTHY: 0, LIFESTYLE: 1, ORAL: 2, INSULIN: 3}),
        Task("healthy-vs-rest", ("healthy", "rest"), {HEALTHY: 0, LIFESTYLE: 1, ORAL: 1, INSULIN: 1}),
        Task("medicated-vs-not", ("not_medicated", "medicated"), {HEALTHY: 0, LIFESTYLE: 0, ORAL: 1, INSULIN: 1}),
        Task("insulin-vs-rest", ("rest", INSULIN), {HEALTHY: 0, LIFESTYLE: 0, ORAL: 0, INSULIN: 1}),
    )
}


def find_task(asked: str) -> Task:
    """Look a task up by its name, or read it from a YAML file. Raises: UsageError, which says what was expected."""
    if asked in TASKS:
        return TASKS[asked]
    if asked.lower() in REGRESSIONS:
        raise UsageError(
            f"--task {asked}: expected a question with classes, got a number; how well the embedding knows age (and "
            f"HbA1c, with --measurements) is measured in every run: see probes_of_nuisance of run.json"
        )
    if not asked.endswith(FILE_SUFFIXES):
        raise UsageError(f"--task: expected one of {', '.join(TASKS)}, or a file such as mine.yaml, got {asked!r}")
    path = Path(asked)
    task = parse_task(read_mapping(path, f"--task {path.name}"), f"--task {path.name}")
    if task.name in TASKS:
        raise UsageError(f"--task {path.name}: name: {task.name} is built in; call yours otherwise")
    return task


def task_of_record(record: RunRecord) -> Task:
    """Give the task of a run as its record defines it; an older record only names one of TASKS."""
    definition = record.asked.task_definition
    return parse_task(definition, f"run {record.id}") if definition else find_task(record.asked.task)


def parse_task(raw: Mapping[str, Any], where: str) -> Task:
    """Read {"name", "classes": in order, "groups": {study group: class}}; where: what the messages begin with.

    Raises: UsageError for an unknown or missing key, a name that cannot be part of a folder's, an unknown study group,
    an unknown class, a class without a group, fewer than two classes, or no group at all.
    """
    if unknown := [key for key in raw if key not in KEYS]:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}; expected {', '.join(KEYS)}")
    if missing := [key for key in KEYS if key not in raw]:
        raise UsageError(f"{where}: expected the key {missing[0]!r}, got none; a task has {', '.join(KEYS)}")
    name = raw["name"]
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):
        raise UsageError(f"{where}: name: expected up to 40 small letters, digits and dashes, got {name!r}")
    classes = _parse_classes(raw["classes"], where)
    groups = _parse_groups(raw["groups"], classes, where)
    if empty := [one for one in classes if one not in groups.values()]:
        raise UsageError(f"{where}: classes: no study group makes the class {empty[0]!r}; add one, or drop the class")
    return Task(name, classes, {group: classes.index(groups[group]) for group in STUDY_GROUPS if group in groups})


def _parse_classes(raw: object, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(one, str) and one.strip() for one in raw):
        raise UsageError(f"{where}: classes: expected a list of names (yes, no and numbers in quotes), got {raw!r}")
    if len(set(raw)) < max(2, len(raw)):
        raise UsageError(f"{where}: classes: expected at least two different names, got {', '.join(raw) or 'none'}")
    return tuple(raw)


def _parse_groups(raw: object, classes: tuple[str, ...], where: str) -> dict[str, str]:
    if not isinstance(raw, dict) or not raw:
        raise UsageError(f"{where}: groups: the task maps nothing; expected lines such as {HEALTHY}: {classes[0]}")
    if unknown := [group for group in raw if group not in STUDY_GROUPS]:
        raise UsageError(f"{where}: groups: unknown study group {unknown[0]!r}; expected {', '.join(STUDY_GROUPS)}")
    if strange := [group for group, one in raw.items() if one not in classes]:
        got = raw[strange[0]]
        raise UsageError(f"{where}: groups: {strange[0]}: expected one of {', '.join(classes)}, got {got!r}")
    return raw
