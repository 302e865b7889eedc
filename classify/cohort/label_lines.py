"""Lines of a table of labels, once read: which words are values, one line a unit, one split a person, numbers."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from classify.cohort.questions import Level, Question, Task
from classify.errors import LeakError
from embeddings_store.cells import read_number
from embeddings_store.text_table import TextTable

NONE = "none"
"""Among the words that mean no value the one that grades are called by, too."""

KEYS: Mapping[Level, tuple[str, ...]] = {
    "participant": ("participant",),
    "eye": ("participant", "eye"),
    "scan": ("volume",),
}
"""What a line is joined by, by the level of the task."""


def words_of(question: Question) -> frozenset[str]:
    """Name what is a value of the target because the question names it, though it looks like a missing one."""
    named = (question.classes or (), question.groups or (), question.exclude, (question.positive or "",))
    return frozenset(word for words in named for word in words) - {""}


def settle_none(lines: pd.DataFrame, question: Question, table: TextTable) -> pd.DataFrame:
    """Let "none" be no value where numbers are asked for, and a class where the question, or one other value, says so.

    Raises: table.fault where nobody can tell it from a grade of that name.
    """
    none = (lines["group"].str.lower() == NONE) & ~lines["group"].isin(words_of(question))
    others = set(lines.loc[~none, "group"]) - {""}
    if not none.any() or question.classes or question.groups or len(others) == 1:
        return lines
    if question.kind == "number" or (question.kind is None and all(map(read_number, others))):
        return lines.assign(group=lines["group"].mask(none, ""))
    raise table.refuse(
        f"{lines.loc[none, 'group'].iloc[0]!r} in {int(none.sum())} lines, which may be a class or no value; name it "
        "in --classes or --exclude, or leave these cells empty",
        f"to know what is meant by every value of {question.target}",
        column=question.target,
    )


def one_line_each(frame: pd.DataFrame, task: Task, table: TextTable) -> pd.DataFrame:
    """Keep one line a unit. Raises: CohortError where two lines of a unit say different things of the label."""
    keys = list(KEYS[task.level])
    if task.level != "scan":
        if nobody := int((frame[keys] == "").any(axis=1).sum()):
            table.notes[f"lines name no {task.level} and are left out"] += nobody
        frame = frame[(frame[keys] != "").all(axis=1)]
    known = frame[frame["group"] != ""]
    values = known.groupby(keys)["group"].nunique()
    if (values > 1).any():
        first = values.index[values > 1][0]
        found = sorted(known.set_index(keys).loc[[first], "group"].unique())
        who = first if isinstance(first, str) else " ".join(first)
        hint = "" if task.level == "scan" else "; if a label belongs to an eye or a scan, say so with --level"
        raise table.refuse(
            f"{int((values > 1).sum())} with several, such as {who if task.level != 'scan' else 'one scan'}: "
            f"{', '.join(found[:4])}{hint}",
            f"one {task.target} for each {task.level}",
        )
    filled = _fill(frame, keys, task, table).sort_values("group", key=lambda column: column == "", kind="stable")
    kept = filled.drop_duplicates(keys)
    if len(kept) < len(frame):
        table.notes[f"lines repeat a {task.level} and count once"] += len(frame) - len(kept)
    return kept


def _fill(frame: pd.DataFrame, keys: list[str], task: Task, table: TextTable) -> pd.DataFrame:
    """Give every line of a unit the first value of age, site, split and covariates that one of them has."""
    named = [name for name in task.covariates or () if name in frame]
    for column in dict.fromkeys(["age", "site", "split", *named]):
        known = frame[column].mask(frame[column] == "").groupby([frame[key] for key in keys])
        different = known.nunique()
        if several := int((different > 1).sum()):
            table.notes[f"{task.units} have several values of {column}, of which the first counts"] += several
        frame = frame.assign(**{column: known.transform("first").fillna(frame[column])})
    return frame


def read_covariates(frame: pd.DataFrame, columns: Mapping[str, str], table: TextTable) -> pd.DataFrame:
    """Make numbers (NaN: missing) of the covariates whose filled cells are numbers; the others stay groups.

    Raises: CohortError where most cells are numbers and some are not.
    """
    for name, column in columns.items():
        texts = frame[name]
        numbers = {text: read_number(text) for text in set(texts) - {""}}
        wrong = [text for text, number in numbers.items() if number is None]
        if wrong and 2 * len(wrong) < len(numbers):
            found = ", ".join(repr(text[:40]) for text in sorted(wrong)[:4])
            raise table.refuse(
                f"{found} among numbers; write a number, or leave the cell empty", "numbers", column=column
            )
        if not wrong:
            values = {text: number.value for text, number in numbers.items() if number}
            frame = frame.assign(**{name: texts.map(values).astype(np.float64)})
    return frame


def require_numbers(frame: pd.DataFrame, task: Task, table: TextTable) -> None:
    """Refuse a number that is text."""
    asked = [text for text in frame["group"] if text and text not in task.exclude]
    wrong = Counter(text for text in asked if task.number_of(text) is None)
    if wrong:
        found = ", ".join(f"{text[:40]!r} ({count})" for text, count in wrong.most_common(4))
        found += "; exclude them with --exclude, or leave the cell empty"
        raise table.refuse(found, "numbers", column=task.target)
    numbers = [number for text in asked if (number := read_number(text))]
    if limits := sum(number.bound for number in numbers):
        table.notes[f"values of {task.target} are limits, such as >89, and count as the limit"] += limits
    if any(number.comma for number in numbers):
        table.notes[f"the numbers of {task.target} are written with a decimal comma"] += 1


def one_split_each(frame: pd.DataFrame, table: TextTable) -> None:
    """Raises: LeakError where a participant's lines stand in several splits."""
    known = frame[(frame["participant"] != "") & (frame["split"] != "")]
    several = known.groupby("participant")["split"].nunique()
    if (several > 1).any():
        names = ", ".join(map(str, several.index[several > 1][:4]))
        raise LeakError(
            f"participants in two splits of {table.where}: {names} ({int((several > 1).sum())} in all); keep every "
            "scan of a person in one split"
        )
