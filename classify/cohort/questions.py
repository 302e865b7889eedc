"""What a task is, and how a question becomes one: by the values that its target has in the labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, get_args

from classify.cohort.units import VOLUME
from embeddings_store.cells import NO, YES, read_number
from embeddings_store.errors import UsageError

Kind = Literal["binary", "nominal", "ordered", "number"]
Level = Literal["participant", "eye", "scan"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEVELS: tuple[Level, ...] = get_args(Level)
STUDY_GROUP = "study_group"
"""The target of AI-READI's participants table."""

MOST_CLASSES = 20
"""With more values than this a column that nobody described is no class."""

FEWEST_NUMBERS = 11
"""With fewer different whole numbers than this nobody can tell grades and codes from a measurement."""

NEGATIVE = NO | frozenset(("normal", "control", "controls", "healthy", "negative", "neg", "none", "non", "absent"))
POSITIVE = YES | frozenset(("positive", "pos", "present", "case", "diseased", "disease", "abnormal"))


@dataclass(frozen=True, slots=True)
class Task:
    """A complete question.

    classes: in order where kind is ordered; of a binary task the positive one is second; () where kind is number.
    class_of: class number by value of the target; a value that stands nowhere is no part of the question. level: whose
    the label is, and so what is judged. covariates: what the baseline next to every number knows; None: age and site
    where the labels have them. exclude: values left out on purpose. contrasts: two-sided questions asked of the
    probabilities as well, by name the classes of the further side.
    """

    name: str
    classes: tuple[str, ...]
    class_of: Mapping[str, int]
    kind: Kind = "ordered"
    target: str = STUDY_GROUP
    level: Level = "participant"
    covariates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    contrasts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def judged(self) -> str:
        """Name of the level of predictions that is judged: participant, eye or volume."""
        return VOLUME if self.level == "scan" else self.level

    @property
    def units(self) -> str:
        """What is judged, in words: participants, eyes or scans."""
        return f"{self.level}s"

    @property
    def is_number(self) -> bool:
        """Whether the target is a number and no class."""
        return self.kind == "number"

    @property
    def is_ordered(self) -> bool:
        """Whether there are more than two classes, in an order."""
        return self.kind == "ordered" and len(self.classes) > 2

    def number_of(self, text: str) -> float | None:
        """Read a value of a target that is a number; a limit such as >89 counts as it; None where it is none."""
        found = read_number(text)
        return found.value if found and not found.unit else None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a task file; parse_task reads it back."""
        values = {
            one: [v for v, number in self.class_of.items() if self.classes[number] == one] for one in self.classes
        }
        found: dict[str, Any] = {"name": self.name, "target": self.target, "kind": self.kind, "level": self.level}
        if self.classes:
            found |= {"classes": list(self.classes), "groups": values}
        if self.kind == "binary":
            found["positive"] = self.classes[1]
        if self.covariates is not None:
            found["covariates"] = list(self.covariates)
        if self.exclude:
            found["exclude"] = list(self.exclude)
        if self.contrasts:
            found["contrasts"] = {name: list(classes) for name, classes in self.contrasts.items()}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked before the labels are read: what is None is found from them, see complete_task."""

    name: str
    where: str
    target: str = STUDY_GROUP
    kind: Kind | None = None
    classes: tuple[str, ...] | None = None
    groups: Mapping[str, str] | None = None
    positive: str | None = None
    level: Level | None = None
    covariates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    contrasts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def complete_task(question: Question, counts: Mapping[str, int], finest: Level = "participant") -> Task:
    """Complete a question by the values of its target (with how often each stands) and the finest level of the table.

    Raises: UsageError where the values do not say what is meant, or one class is all there is.
    """
    level = question.level or finest
    here = {value: count for value, count in counts.items() if value not in question.exclude}
    kind = question.kind or _find_kind(question, here)
    if kind == "number":
        if question.classes or question.positive:
            raise UsageError(f"{question.where}: a number has no classes and no positive one; leave them out")
        return Task(question.name, (), {}, kind, question.target, level, question.covariates, question.exclude)
    groups = question.groups or {value: value for value in _find_classes(question, here)}
    classes = question.classes or tuple(dict.fromkeys(groups.values()))
    if kind == "binary":
        classes = _positive_second(question, classes)
    if kind == "ordered" and question.classes is None:
        raise UsageError(
            f"{question.where}: an ordered target needs its classes in order; give --classes with commas between, "
            f"from the mildest: found {_listed(here)}"
        )
    class_of = {value: classes.index(one) for value, one in groups.items()}
    return Task(
        question.name, classes, class_of, kind, question.target, level, question.covariates, question.exclude,
        question.contrasts,
    )  # fmt: skip


def _find_classes(question: Question, here: Mapping[str, int]) -> list[str]:
    """List the values that are classes: those that were named, else all that are there."""
    if question.classes is not None:
        missing = [one for one in question.classes if here and one not in here]
        if missing:
            near = get_close_matches(missing[0], list(here), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"{question.where}: class {missing[0]!r}: expected a value of {question.target}, which has "
                f"{_listed(here)}{hint}"
            )
        return list(question.classes)
    if len(here) < 2:
        raise UsageError(
            f"{question.where}: {question.target}: expected at least two classes, got {_listed(here)}; "
            "there is nothing to tell apart"
        )
    if len(here) > MOST_CLASSES:
        raise UsageError(
            f"{question.where}: {question.target} has {len(here)} different values, which is too many for classes "
            f"({_listed(here)}); if they are measurements, give --kind number, else group them in a task file"
        )
    return sorted(here, key=lambda value: (_as_number(value) is None, _as_number(value) or 0.0, value))


def _find_kind(question: Question, here: Mapping[str, int]) -> Kind:
    """Tell what kind of target this is where nobody said, and refuse to guess between codes and measurements."""
    if question.classes is not None or question.groups is not None:
        classes = question.classes or tuple(dict.fromkeys((question.groups or {}).values()))
        return "binary" if len(classes) == 2 else "ordered" if question.target == STUDY_GROUP else "nominal"
    numbers = [_as_number(value) for value in here]
    if len(here) > 2 and None not in numbers:
        if len(here) >= FEWEST_NUMBERS or any(number != int(number) for number in numbers if number is not None):
            return "number"
        raise UsageError(
            f"{question.where}: {question.target} has the values {_listed(here)}, which may be codes, grades or "
            "measurements; give --kind nominal, ordered (with --classes in order) or number"
        )
    return "binary" if len(here) == 2 else "nominal"


def _positive_second(question: Question, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Put the positive class second, as it was named, or where the two names say which one it is."""
    if len(classes) != 2:
        raise UsageError(f"{question.where}: a binary target has two classes, got {', '.join(classes)}")
    if question.positive is not None:
        if question.positive not in classes:
            raise UsageError(
                f"{question.where}: positive: expected one of {', '.join(classes)}, got {question.positive!r}"
            )
        return (classes[1 - classes.index(question.positive)], question.positive)
    if question.classes is not None:
        return classes
    first, second = (one.lower() for one in classes)
    if (first in NEGATIVE) != (second in NEGATIVE):
        return classes if first in NEGATIVE else classes[::-1]
    if (first in POSITIVE) != (second in POSITIVE):
        return classes if second in POSITIVE else classes[::-1]
    raise UsageError(
        f"{question.where}: which of {classes[0]!r} and {classes[1]!r} is the positive class (the one to be found)? "
        "Give --positive"
    )


def _as_number(value: str) -> float | None:
    found = read_number(value)
    return found.value if found and not found.unit and not found.bound else None


def _listed(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])[:6]
    said = ", ".join(f"{value[:40]!r} ({count})" for value, count in most)
    return (said or "no value") + (f" and {len(counts) - 6} more" if len(counts) > 6 else "")
