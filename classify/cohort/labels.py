"""Read any table of labels: a line a participant, eye or scan, one column of it asked for, all else as it is needed."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classify.cohort.clinical import refuse_label_defining
from classify.cohort.made_splits import OWNERS, SPLIT_COLUMNS, Shares, read_split
from classify.cohort.participants import read_age_years, read_participants
from classify.cohort.questions import Level, Question, Task, complete_task
from classify.cohort.splitting import FOLD, Splitting, choose_splitting
from classify.errors import CohortError, LeakError
from classify.run.record import RunRecord
from embeddings_store.cells import broken_id, is_missing, normalise_id, read_number
from embeddings_store.schema import volume_id
from embeddings_store.text_table import ID_NAMES, Line, TextTable, fold_name, open_table, read_file

SCANS = ("file", "key")
EYES = ("eye", "laterality")
SITES = ("site", "clinical_site", "center", "centre")
AGES = ("age", "age_years")
KNOWN = (*OWNERS, *SCANS, *EYES, *SITES, *AGES, *SPLIT_COLUMNS)
LEFT, RIGHT = frozenset(("l", "os", "left", "links", "g")), frozenset(("r", "od", "right", "rechts", "d"))

LINES = ("participant", "eye", "volume", "site", "group", "age", "split", "flagged")
"""Columns of the lines that are joined with a store, and the covariates of the task after them. group: the value of
the target as it is written; "" missing. eye, volume: "" where the table, or the level of the task, has none."""

OF_AI_READI = {"kind": "column", "column": "recommended_split"}

KEYS: Mapping[Level, tuple[str, ...]] = {
    "participant": ("participant",),
    "eye": ("participant", "eye"),
    "scan": ("volume",),
}
"""What a line is joined by, by the level of the task."""


@dataclass(frozen=True)
class LabelSource:
    """Which table: AI-READI's participants.tsv, or one of labels; and where its splits come from.

    everybody: the split of all of them, whatever the table says; None: as it says. shares, seed: of splits that shall
    be made. folds: of a cross-validation; crosses: whether the verb can do that.
    """

    participants: Path | None
    labels: Path | None = None
    split_column: str | None = None
    everybody: str | None = None
    shares: Shares | None = None
    seed: int = 0
    folds: int | None = None
    crosses: bool = False

    def of_run(self, record: RunRecord) -> "LabelSource":
        """Return the same with the split column of a run, where its labels have one and none was named."""
        column = record.cohort.splits_from.get("column")
        if self.labels is None or self.split_column or not isinstance(column, str):
            return self
        return replace(self, split_column=column)

    @property
    def path(self) -> Path:
        """The table."""
        path = self.participants or self.labels
        if path is None:
            raise CohortError("expected a table of participants or of labels, got none")
        return path


@dataclass(frozen=True)
class Labels:
    """The lines of a table (LINES and covariates), joined by KEYS of the task's level, and the completed task.

    Of a cross-validation they have FOLD, too. splitting: where the splits come from.
    """

    lines: pd.DataFrame
    task: Task
    splitting: Splitting = field(default_factory=Splitting)
    settled: bool = True

    def of(self, index: pd.DataFrame, tell: Callable[[str], None] = lambda _: None) -> "Labels":
        """Give every line its split, by the owners that volumes have in an index where the table names none.

        index: volume and participant. Raises: as Splitting.settle.
        """
        if self.settled:
            return self
        owners = dict(zip(index["volume"].astype(str), index["participant"].astype(str), strict=True))
        known = self.lines["participant"]
        owned = self.lines.assign(participant=known.where(known != "", self.lines["volume"].map(owners).fillna("")))
        return replace(self, lines=self.splitting.settle(owned, self.task, tell), settled=True)

    @property
    def crossed(self) -> bool:
        """Whether everybody is judged on folds, and nobody on a split."""
        return self.splitting.folds is not None or FOLD in self.lines

    def keep_splits(self, tell: Callable[[str], None]) -> None:
        """Keep splits that were made in a file next to the labels. Raises: CohortError where that cannot be."""
        self.splitting.keep(self.lines, self.task, tell)

    def owned(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the lines with their participants, which a table of scans may leave to the store. index: of it."""
        if self.task.level != "scan":
            return self.lines
        owner = index.drop_duplicates("volume").set_index("volume")["participant"]
        return self.lines.assign(participant=self.lines["volume"].map(owner).fillna(self.lines["participant"]))


def read_labels(source: LabelSource, question: Question, tell: Callable[[str], None] = lambda _: None) -> Labels:
    """Read the table and complete the question by it. tell: hears what was mended, with counts.

    Raises: CohortError for what cannot be read, and lines that contradict each other; UsageError where the question
    does not fit the values; LeakError for a participant in two splits.
    """
    if source.participants is not None:
        return _read_people(source, question, tell)
    where = f"--labels {source.path.name}"
    known = (*KNOWN, fold_name(question.target))
    table = open_table(read_file(source.path, where, CohortError), where, CohortError, known)
    columns = _find_columns(table, question, source)
    splitting = Splitting() if source.everybody else choose_splitting(
        source.path, asked=columns["split"] if source.split_column else "", found=columns["split"],
        shares=source.shares, seed=source.seed, folds=source.folds, crosses=source.crosses,
    )  # fmt: skip
    if splitting.origin.get("kind") != "column":
        columns["split"] = ""
    lines = [_read_line(line, columns, table) for line in table.read((columns["group"],), _wanted(columns))]
    if not lines:
        raise table.refuse("a header alone", "at least one line")
    finest: Level = "scan" if columns["volume"] else "eye" if columns["eye"] else "participant"
    task = complete_task(question, Counter(str(line["group"]) for line in lines if line["group"]), finest)
    _refuse_finer(task, finest, table)
    refuse_label_defining(task.covariates or (), task)
    frame = pd.DataFrame(lines).astype({"age": np.float64})
    if source.everybody:
        frame = frame.assign(split=source.everybody)
    _one_split_each(frame, table)
    frame = _one_line_each(frame, task, table)
    if task.is_number:
        _require_numbers(frame, task, table)
    frame = _read_covariates(frame, columns["covariates"], table)
    for said in table.said():
        tell(said)
    frame = frame.sort_values(list(KEYS[task.level]), ignore_index=True)
    if source.everybody:
        return Labels(frame, task)
    labels = Labels(frame, task, splitting, settled=False)
    waits = splitting.needs_owners and (frame["participant"] == "").any()
    return labels if waits else labels.of(frame, tell)


def _read_people(source: LabelSource, question: Question, tell: Callable[[str], None]) -> Labels:
    """Read AI-READI's participants.tsv."""
    task = complete_task(question, {})
    refuse_label_defining(task.covariates or (), task)
    if strange := set(task.covariates or ()) - {"age", "site"}:
        raise CohortError(
            f"{question.where}: covariates {', '.join(sorted(strange))}: participants.tsv is read for age and site "
            "alone; give the table as --labels, with the task or --target"
        )
    people = read_participants(source.path, tell)
    if source.everybody:
        return Labels(people.assign(split=source.everybody), task)
    splitting = Splitting(OF_AI_READI, source.path, folds=source.folds, crosses=source.crosses)
    return Labels(splitting.settle(people, task, tell), task, splitting)


def _find_columns(table: TextTable, question: Question, source: LabelSource) -> dict[str, Any]:
    """Find the column of each part of a line, "" where there is none. Raises: CohortError naming the nearest ones."""
    target = _require(table, question.target, "--target")
    split = _first(table, SPLIT_COLUMNS)
    if source.split_column:
        split = _require(table, source.split_column, "--split-column")
    if source.everybody:
        split = ""
    asked = [one for one in question.covariates or () if fold_name(one) not in (*SITES, *AGES)]
    found = {
        "participant": _first(table, OWNERS), "volume": _first(table, SCANS), "eye": _first(table, EYES),
        "site": _first(table, SITES), "age": _first(table, AGES), "split": split, "group": target,
        "covariates": {one: _require(table, one, "covariates") for one in asked},
    }  # fmt: skip
    if not (found["participant"] or found["volume"]):
        raise table.refuse(", ".join(table.names[:8]), f"a column {', '.join(OWNERS[:4])} or file")
    return found


def _first(table: TextTable, names: Sequence[str]) -> str:
    return next((name for name in names if table.has(name)), "")


def _require(table: TextTable, name: str, option: str) -> str:
    folded = fold_name(name)
    if table.has(folded):
        return folded
    near = get_close_matches(folded, table.names, n=3, cutoff=0.5) or list(table.names[:8])
    raise CohortError(f"{table.where}: {option} {name}: no such column; the nearest: {', '.join(near)}")


def _wanted(columns: dict[str, Any]) -> tuple[str, ...]:
    plain = [columns[name] for name in ("participant", "volume", "eye", "site", "age", "split") if columns[name]]
    names = dict.fromkeys([*plain, *columns["covariates"].values()])
    return tuple(name for name in names if name not in (columns["group"], *ID_NAMES))


def _read_line(line: Line, columns: dict[str, Any], table: TextTable) -> dict[str, Any]:
    cells = line.cells

    def cell(part: str) -> str:
        text = cells.get(columns[part], "") if columns[part] else ""
        return "" if is_missing(text) and part != "site" else text

    own = line.participant or normalise_id(cells.get(columns["participant"], ""))
    if spoilt := broken_id(own):
        raise table.refuse(f"{spoilt}; save the ids as text", "a participant's id", line.number, columns["participant"])
    file = cell("volume").replace("\\", "/").removeprefix("./").rstrip("/")
    if not own and not file:
        raise table.refuse("an empty one", "an id", line.number, columns["participant"] or columns["volume"])
    return {
        "participant": own,
        "eye": _read_eye(cell("eye"), line, table),
        "volume": str(volume_id(file)) if file else "",
        "site": cell("site"),
        "group": cell("group"),
        "age": read_age_years(cell("age"), line, table, columns["age"]) if columns["age"] else float("nan"),
        "split": read_split(cell("split"), line, table, columns["split"]),
        "flagged": "",
        **{name: _missing_empty(cells.get(column, "")) for name, column in columns["covariates"].items()},
    }


def _missing_empty(text: str) -> str:
    return "" if is_missing(text) else text


def _read_eye(text: str, line: Line, table: TextTable) -> str:
    folded = text.lower()
    if not folded or folded in LEFT | RIGHT:
        return "" if not folded else "L" if folded in LEFT else "R"
    raise table.refuse(repr(text[:40]), "an eye (L or R, OS or OD, left or right)", line.number, "eye")


def _refuse_finer(task: Task, finest: Level, table: TextTable) -> None:
    """Refuse a level that the table has no column for."""
    needs = {"scan": "a column file", "eye": "a column eye", "participant": f"a column {OWNERS[0]}"}
    order = ("participant", "eye", "scan")
    if order.index(task.level) > order.index(finest):
        raise table.refuse(", ".join(table.names[:8]), f"{needs[task.level]} for labels of the level {task.level}")


def _one_line_each(frame: pd.DataFrame, task: Task, table: TextTable) -> pd.DataFrame:
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
    filled = frame.sort_values("group", key=lambda column: column == "", kind="stable")
    kept = filled.drop_duplicates(keys)
    if len(kept) < len(frame):
        table.notes[f"lines repeat a {task.level} and count once"] += len(frame) - len(kept)
    return kept


def _read_covariates(frame: pd.DataFrame, columns: Mapping[str, str], table: TextTable) -> pd.DataFrame:
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


def _require_numbers(frame: pd.DataFrame, task: Task, table: TextTable) -> None:
    """Refuse a number that is text."""
    wrong = Counter(text for text in frame["group"] if text and task.number_of(text) is None)
    if wrong:
        found = ", ".join(f"{text[:40]!r} ({count})" for text, count in wrong.most_common(4))
        found += "; exclude them with --exclude, or leave the cell empty"
        raise table.refuse(found, "numbers", column=task.target)
    if any((number := read_number(text)) and number.comma for text in frame["group"] if text):
        table.notes[f"the numbers of {task.target} are written with a decimal comma"] += 1


def _one_split_each(frame: pd.DataFrame, table: TextTable) -> None:
    """Raises: LeakError where a participant's lines stand in several splits."""
    known = frame[(frame["participant"] != "") & (frame["split"] != "")]
    several = known.groupby("participant")["split"].nunique()
    if (several > 1).any():
        names = ", ".join(map(str, several.index[several > 1][:4]))
        raise LeakError(
            f"participants in two splits of {table.where}: {names} ({int((several > 1).sum())} in all); keep every "
            "scan of a person in one split"
        )
