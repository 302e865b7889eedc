"""Tasks by name and from files: four of AI-READI, which are files of the package, and anybody's own."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from classify.cohort.questions import KINDS, LEVELS, STUDY_GROUP, Kind, Level, Question, Task, complete_task
from classify.run.record import RunRecord
from embeddings_store.errors import UsageError
from embeddings_store.yaml_file import parse_mapping, read_mapping

__all__ = ["STUDY_GROUPS", "TASKS", "Question", "Task", "find_question", "find_task", "parse_task", "task_of_record"]

FILE_SUFFIXES = (".yaml", ".yml")
KEYS = ("name", "target", "kind", "classes", "groups", "positive", "level", "covariates", "exclude", "contrasts")
TIME = "time"
REGRESSIONS = ("age", "hba1c")
"""Asked of the embedding in every run, in the table of what it knows besides the label."""


def find_question(asked: str) -> Question:
    """Look a task up by its name, or read it from a YAML file. Raises: UsageError, which says what was expected."""
    if asked in TASKS:
        return parse_question(TASKS[asked].to_dict(), f"task {asked}")
    if asked.lower() in REGRESSIONS:
        raise UsageError(
            f"--task {asked}: expected the name of a task, got a number; how well the embedding knows age (and "
            f"HbA1c, with --measurements) is measured in every run: see probes_of_nuisance of run.json. To make "
            f"a number the question itself, give --labels FILE --target {asked}"
        )
    if not asked.endswith(FILE_SUFFIXES):
        near = get_close_matches(asked, list(TASKS), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"--task: expected one of {', '.join(TASKS)}, or a file such as mine.yaml, got {asked!r}{hint}"
        )
    path = Path(asked)
    question = parse_question(read_mapping(path, f"--task {path.name}"), f"--task {path.name}")
    if question.name in TASKS:
        raise UsageError(f"--task {path.name}: name: {question.name} is built in; call yours otherwise")
    return question


def find_task(asked: str) -> Task:
    """Return a task that says its classes itself, by name or from a file. Raises: UsageError."""
    return _whole(find_question(asked))


def parse_task(raw: Mapping[str, Any], where: str) -> Task:
    """Read the content of a task file that says its classes itself. Raises: UsageError as parse_question does."""
    return _whole(parse_question(raw, where))


def _whole(question: Question) -> Task:
    if question.classes is None and question.kind != "number":
        raise UsageError(f"{question.where}: expected the key 'classes', got none")
    return complete_task(question, {})


def task_of_record(record: RunRecord) -> Task:
    """Return the task of a run as its record defines it; an older record only names it."""
    definition = record.asked.task_definition
    if definition:
        return parse_task(definition, f"run {record.id}")
    if record.asked.task in TASKS:
        return TASKS[record.asked.task]
    classes = tuple(record.asked.classes)
    return Task(record.asked.task, classes, {}, "binary" if len(classes) == len(("no", "yes")) else "ordered")


def question_of_record(record: RunRecord) -> Question:
    """Return the question of a run again, to be asked of a table of labels."""
    return parse_question(task_of_record(record).to_dict(), f"run {record.id}")


def name_of_target(target: str) -> str:
    """Make the name of a task of the name of a column: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", target.lower()).strip("-")[:40] or "target"


def parse_question(raw: Mapping[str, Any], where: str) -> Question:
    """Read the fields of a task file (KEYS; only name is always needed); where: what the messages begin with.

    groups: {class: its values} or {value: its class}. Raises: UsageError for an unknown key, a name that cannot be
    part of a folder's, an unknown kind or level, a class without a value, fewer than two classes, a value in two
    classes, or, where the target is the study group of AI-READI, a group that it has not.
    """
    if unknown := [key for key in raw if key not in KEYS]:
        near = get_close_matches(unknown[0], KEYS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{where}: unknown key {unknown[0]!r}; expected {', '.join(KEYS)}{hint}")
    name = raw.get("name")
    if name is None:
        raise UsageError(f"{where}: expected the key 'name', got none; a task has {', '.join(KEYS)}")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):
        raise UsageError(f"{where}: name: expected up to 40 small letters, digits and dashes, got {name!r}")
    target = _text(raw.get("target", STUDY_GROUP), "target", where)
    if target == STUDY_GROUP and (missing := [key for key in ("classes", "groups") if key not in raw]):
        raise UsageError(
            f"{where}: expected the key {missing[0]!r}, got none; a task on {STUDY_GROUP} says its classes and groups; "
            "on another column of a table of labels, it names the column as target"
        )
    kind = _one_of(raw.get("kind"), KINDS, "kind", where)
    classes = _parse_classes(raw["classes"], where) if "classes" in raw else None
    groups = _parse_groups(raw["groups"], classes, target, where) if "groups" in raw else None
    if classes and groups and (empty := [one for one in classes if one not in groups.values()]):
        kind_of_value = "study group" if target == STUDY_GROUP else "value"
        raise UsageError(
            f"{where}: classes: no {kind_of_value} makes the class {empty[0]!r}; add one, or drop the class"
        )
    if kind == "number" and (classes or groups):
        raise UsageError(f"{where}: kind number: expected no classes and no groups, got some")
    if kind == "binary" and classes and len(classes) != 2:
        raise UsageError(f"{where}: kind binary: expected two classes, got {', '.join(classes)}")
    return Question(
        name=name,
        where=where,
        target=target,
        kind=cast("Kind | None", kind),
        classes=classes or (tuple(dict.fromkeys(groups.values())) if groups else None),
        groups=groups,
        positive=_parse_positive(raw.get("positive"), classes, where),
        level=cast("Level | None", _one_of(raw.get("level"), LEVELS, "level", where)),
        covariates=_texts(raw["covariates"], "covariates", where) if "covariates" in raw else None,
        exclude=_texts(raw.get("exclude", []), "exclude", where),
        contrasts=_parse_contrasts(raw.get("contrasts", {}), classes or (), where),
    )


def _text(raw: object, key: str, where: str) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int) or not str(raw).strip():
        raise UsageError(f"{where}: {key}: expected a name (yes, no and numbers in quotes), got {raw!r}")
    return str(raw).strip()


def _texts(raw: object, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise UsageError(f"{where}: {key}: expected a list of names, got {raw!r}")
    found = tuple(_text(one, key, where) for one in raw)
    if len(set(found)) < len(found):
        raise UsageError(f"{where}: {key}: expected different names, got one twice")
    return found


def _one_of(raw: object, names: tuple[str, ...], key: str, where: str) -> str | None:
    if raw is None or raw in names:
        return raw
    if raw == TIME:
        raise UsageError(
            f"{where}: kind time: not possible yet (times to an event need models of survival); expected one of "
            f"{', '.join(names)}"
        )
    raise UsageError(f"{where}: {key}: expected one of {', '.join(names)}, got {raw!r}")


def _parse_classes(raw: object, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(one, str) and one.strip() for one in raw):
        raise UsageError(f"{where}: classes: expected a list of names (yes, no and numbers in quotes), got {raw!r}")
    if len(set(raw)) < max(2, len(raw)):
        raise UsageError(f"{where}: classes: expected at least two different names, got {', '.join(raw) or 'none'}")
    return tuple(raw)


def _parse_groups(raw: object, classes: tuple[str, ...] | None, target: str, where: str) -> dict[str, str]:
    """Return the class of each value, whichever way round the file says it."""
    if not isinstance(raw, dict) or not raw:
        first = classes[0] if classes else "healthy"
        raise UsageError(f"{where}: groups: the task maps nothing; expected lines such as {first}: [value, value]")
    by_class = any(isinstance(one, list) for one in raw.values()) or (
        classes is not None and set(map(str, raw)) <= set(classes) and target != STUDY_GROUP
    )
    pairs = (
        [(value, one) for one, values in raw.items() for value in (values if isinstance(values, list) else [values])]
        if by_class
        else list(raw.items())
    )
    found: dict[str, str] = {}
    for raw_value, raw_one in pairs:
        value, one = _text(raw_value, "groups", where), _text(raw_one, "groups", where)
        if found.setdefault(value, one) != one:
            raise UsageError(f"{where}: groups: {value!r} makes two classes, {found[value]} and {one}")
        if classes is not None and one not in classes:
            raise UsageError(f"{where}: groups: {value}: expected one of {', '.join(classes)}, got {one!r}")
        if target == STUDY_GROUP and STUDY_GROUPS and value not in STUDY_GROUPS:
            expected = ", ".join(STUDY_GROUPS)
            raise UsageError(f"{where}: groups: unknown study group {value!r}; expected {expected}")
    return found


def _parse_positive(raw: object, classes: tuple[str, ...] | None, where: str) -> str | None:
    if raw is None:
        return None
    found = _text(raw, "positive", where)
    if classes is not None and found not in classes:
        raise UsageError(f"{where}: positive: expected one of {', '.join(classes)}, got {found!r}")
    return found


def _parse_contrasts(raw: object, classes: tuple[str, ...], where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: contrasts: expected names with lists of classes, got {raw!r}")
    found = {_text(name, "contrasts", where): _texts(side, "contrasts", where) for name, side in raw.items()}
    for name, side in found.items():
        if not side or not set(side) < set(classes):
            raise UsageError(
                f"{where}: contrasts: {name}: expected some of the classes {', '.join(classes)}, and not all, got "
                f"{', '.join(side) or 'none'}"
            )
    return found


def _built_in(name: str) -> Task:
    text = files("classify.cohort").joinpath("ai_readi", f"{name}.yaml").read_text(encoding="utf-8")
    return parse_task(parse_mapping(text, f"task {name}"), f"task {name}")


STUDY_GROUPS: tuple[str, ...] = ()
"""The study groups of AI-READI, in clinical order."""
STUDY_GROUPS = _built_in("four-class").classes
HEALTHY, LIFESTYLE, ORAL, INSULIN = STUDY_GROUPS
BUILT_IN = ("four-class", "healthy-vs-rest", "medicated-vs-not", "insulin-vs-rest")
TASKS: dict[str, Task] = {name: _built_in(name) for name in BUILT_IN}
