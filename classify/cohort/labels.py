"""Read any table of labels: a line a participant, eye or scan, one column of it asked for, all else as it is needed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classify.cohort.clinical import AGES, SITES, covariate_name, refuse_label_defining
from classify.cohort.label_lines import (
    KEYS,
    NONE,
    one_line_each,
    one_split_each,
    read_covariates,
    require_numbers,
    settle_none,
    words_of,
)
from classify.cohort.made_splits import OWNERS, SPLIT_COLUMNS, Shares, read_split
from classify.cohort.participants import read_age_years, read_participants
from classify.cohort.questions import Level, Question, Task, complete_task
from classify.cohort.splitting import FOLD, Splitting, choose_splitting
from classify.cohort.stored_labels import Published, published_with
from classify.errors import CohortError
from classify.run.record import RunRecord
from embeddings_store.cells import broken_id, is_missing, normalise_id
from embeddings_store.schema import SEVERAL, ParticipantId, VolumeRef, crowded_folders, parts_key, volume_id
from embeddings_store.text_table import ID_NAMES, Line, TextTable, fold_name, open_table, read_file

SCANS = ("file", "key")
EYES = ("eye", "laterality")
KNOWN = (*OWNERS, *SCANS, *EYES, *SITES, *AGES, *SPLIT_COLUMNS)
LEFT, RIGHT = frozenset(("l", "os", "left", "links", "g")), frozenset(("r", "od", "right", "rechts", "d"))

LINES = ("participant", "eye", "volume", "site", "group", "age", "split", "flagged")
"""Columns of the lines that are joined with a store, and the covariates of the task after them. group: the value of
the target as it is written; "" missing. eye, volume: "" where the table, or the level of the task, has none."""

OF_AI_READI = {"kind": "column", "column": "recommended_split"}


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

    Of a cross-validation they have FOLD, too. splitting: where the splits come from. published: what comes with labels
    of a public dataset by name.
    """

    lines: pd.DataFrame
    task: Task
    splitting: Splitting = field(default_factory=Splitting)
    settled: bool = True
    published: Published = field(default_factory=Published)

    def own_refs(self, refs: Sequence[VolumeRef]) -> list[VolumeRef]:
        """Return volumes of a bucket as those of the people that the labels know."""
        known = self.published.owners
        return [replace(ref, participant=ParticipantId(known.get(ref.volume, ref.participant))) for ref in refs]

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
    where, published = f"--labels {source.path.name}", published_with(source.path)
    for said in published.notes:
        tell(said)
    known = (*KNOWN, fold_name(question.target))
    table = open_table(read_file(source.path, where, CohortError), where, CohortError, known)
    columns = _find_columns(table, question, source)
    splitting = Splitting() if source.everybody else choose_splitting(
        source.path, asked=columns["split"] if source.split_column else "", found=columns["split"],
        shares=source.shares, seed=source.seed, folds=source.folds, crosses=source.crosses,
    )  # fmt: skip
    if splitting.origin.get("kind") != "column":
        columns["split"] = ""
    if published.origin is not None:
        splitting = _of_published(splitting, published, table, is_split=bool(columns["split"]) and not source.everybody)
    words = words_of(question)
    found = list(table.read((columns["group"],), _wanted(columns)))
    files = [_plain(line.cells.get(columns["volume"], "")) for line in found]
    crowded = crowded_folders(file.split(SEVERAL) for file in files if SEVERAL in file)
    lines = [_read_line(line, columns, table, words, crowded) for line in found]
    if not lines:
        raise table.refuse("a header alone", "at least one line")
    frame = settle_none(pd.DataFrame(lines).astype({"age": np.float64}), question, table)
    finest: Level = "scan" if columns["volume"] else "eye" if columns["eye"] else "participant"
    question = replace(question, covariates=_name_covariates(question, table))
    task = complete_task(question, Counter(frame.loc[frame["group"] != "", "group"].astype(str)), finest)
    _refuse_finer(task, finest, table)
    refuse_label_defining(task.covariates or (), task)
    if source.everybody:
        frame = frame.assign(split=source.everybody)
    one_split_each(frame, table)
    frame = one_line_each(frame, task, table)
    if task.is_number:
        require_numbers(frame, task, table)
    frame = read_covariates(frame, columns["covariates"], table)
    for said in table.said():
        tell(said)
    frame = frame.sort_values(list(KEYS[task.level]), ignore_index=True)
    if source.everybody:
        return Labels(frame, task, published=published)
    labels = Labels(frame, task, splitting, settled=False, published=published)
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
    asked = [one for one in _name_covariates(question, table) or () if one not in ("age", "site")]
    if taken := sorted({*asked} & {*LINES, FOLD}):
        raise table.refuse(f"a covariate {taken[0]}, which means something else here", "another name of that column")
    found = {
        "participant": _first(table, OWNERS), "volume": _first(table, SCANS), "eye": _first(table, EYES),
        "site": _first(table, SITES), "age": _first(table, AGES), "split": split, "group": target,
        "covariates": (covariates := {one: _require(table, one, "covariates") for one in asked}),
    }  # fmt: skip
    if not (found["participant"] or found["volume"]):
        raise table.refuse(", ".join(table.names[:8]), f"a column {', '.join(OWNERS[:4])} or file")
    for name, says in (("participant", "whose a scan is"), ("volume", "which scan it is"), ("split", "who is tested")):
        if found[name] and found[name] in {target, *covariates.values()}:
            raise table.refuse(f"{found[name]}, which says {says}", "a finding or a fact as target and covariates")
    return found


def _of_published(splitting: Splitting, published: Published, table: TextTable, *, is_split: bool) -> Splitting:
    """Name the dataset where splits come from, and its published split where that is the one in use.

    Raises: CohortError where people count once in each part of the published split, and another one is asked for.
    """
    told = dict(published.origin or {})
    if not (is_split and splitting.origin.get("column") == "split"):
        if published.leaks:
            raise table.refuse(
                "another split, or none",
                "the published split, by whose parts these labels count a person; for another one leave --labels and "
                "--official-splits out",
                column="split",
            )
        told = {name: value for name, value in told.items() if name not in ("official", "shared_people")}
    return replace(splitting, origin={**splitting.origin, **told})


def _name_covariates(question: Question, table: TextTable) -> tuple[str, ...] | None:
    """Call the columns of age and site so, whatever the table calls them; a second such column keeps its name."""

    def name(asked: str) -> str:
        short, folded = covariate_name(asked), fold_name(asked)
        column = {"site": _first(table, SITES), "age": _first(table, AGES)}.get(short, "")
        return asked if table.has(folded) and folded != column else short

    return None if question.covariates is None else tuple(dict.fromkeys(map(name, question.covariates)))


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
    names = dict.fromkeys([*plain, "scan", *columns["covariates"].values()])
    return tuple(name for name in names if name not in (columns["group"], *ID_NAMES))


def _plain(file: str) -> str:
    return file.replace("\\", "/").removeprefix("./").rstrip("/")


def _read_line(
    line: Line, columns: dict[str, Any], table: TextTable, words: frozenset[str], crowded: frozenset[str]
) -> dict[str, Any]:
    """Read the parts of a line. words: what is a value of the target, though elsewhere it says that there is none.

    crowded: folders in which the table names several volumes by their files.
    """
    cells = line.cells

    def cell(part: str) -> str:
        text = cells.get(columns[part], "") if columns[part] else ""
        return "" if is_missing(text) and part != "site" else text

    def group() -> str:
        text = cells[columns["group"]]
        return text if text in words or text.lower() == NONE else "" if is_missing(text) else text

    own = line.participant or normalise_id(cells.get(columns["participant"], ""))
    if spoilt := broken_id(own):
        raise table.refuse(f"{spoilt}; save the ids as text", "a participant's id", line.number, columns["participant"])
    file = _plain(cell("volume"))
    if SEVERAL in file:
        file = parts_key(file.partition(SEVERAL)[0].strip(), cells.get("scan", ""), crowded)
    if not own and not file:
        raise table.refuse("an empty one", "an id", line.number, columns["participant"] or columns["volume"])
    return {
        "participant": own,
        "eye": _read_eye(cell("eye"), line, table),
        "volume": str(volume_id(file)) if file else "",
        "site": cell("site"),
        "group": group(),
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
