"""Where the splits of a table of labels come from: a column of it, splits.csv next to it, or nowhere but folds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from classify.cohort.made_splits import (
    SPLITS_FILE,
    Making,
    Shares,
    SplitsFile,
    check_fit,
    count_splits,
    deal_splits,
    is_made_from,
    read_splits_file,
    write_shares,
    write_splits_file,
)
from classify.cohort.questions import Task
from classify.cohort.splits import SPLITS
from classify.errors import CohortError
from embeddings_store.errors import UsageError

FOLD = "fold"
"""Column of the lines of a cross-validation: the number of a fold that the labels say, "" where they do not."""

THREE_WAYS = (
    "--split-column NAME of a column that says train, val or test (or numbers of folds), --make-splits 70/15/15, or "
    "(classify probe, compare) --cross-validate 5 where there are too few people for a split"
)


@dataclass(frozen=True)
class Splitting:
    """How the lines of a table get their splits.

    origin: for the record. kept: what splits.csv says, None where a column does. making: how splits shall be made, None
    where there are some. folds: of a cross-validation, as asked for. crosses: whether the verb can cross-validate.
    """

    origin: Mapping[str, Any] = field(default_factory=dict)
    labels: Path = Path()
    kept: SplitsFile | None = None
    making: Making | None = None
    folds: int | None = None
    crosses: bool = False

    @property
    def needs_owners(self) -> bool:
        """Whether nobody can be put into a split before the participant of each line is known."""
        return self.kept is not None or self.making is not None

    def settle(self, lines: pd.DataFrame, task: Task, tell: Callable[[str], None] = lambda _: None) -> pd.DataFrame:
        """Give each line its split, of a cross-validation its FOLD; tell: hears where from.

        Raises: CohortError where the splits do not fit the people; UsageError for folds that this verb cannot use.
        """
        if self.making is not None:
            split = deal_splits(lines, task, self.making)
            return lines.assign(split=lines["participant"].map(split).fillna(""))
        if self.kept is not None:
            people = frozenset(lines["participant"]) - {""}
            labelled = frozenset(lines.loc[_asked(lines, task), "participant"]) - {""}
            for said in check_fit(self.kept, people, labelled, self.labels.name):
                tell(said)
            made = f", made {self.kept.making.said} from {self.kept.making.made_from}" if self.kept.making else ""
            column = self.origin.get("column_not_used")
            instead = f"; not of its column {column}, for which give --split-column {column}" if column else ""
            tell(f"splits: of {SPLITS_FILE} next to {self.labels.name}{made}{instead}")
            lines = lines.assign(split=lines["participant"].map(self.kept.split).fillna(""))
        numbers = lines["split"].str.isdigit()
        if not numbers.any() and self.folds is None:
            return lines
        return self._cross(lines, numbers, tell)

    def _cross(self, lines: pd.DataFrame, numbers: "pd.Series[bool]", tell: Callable[[str], None]) -> pd.DataFrame:
        """Put everybody into train but those of test, who stay locked, and say the fold where the labels do."""
        where = str(self.origin.get("column") or SPLITS_FILE)
        if numbers.any():
            words = sorted(set(lines.loc[~numbers, "split"]) - {""})
            if words:
                raise CohortError(
                    f"{self.labels.name}: the splits of {where} are numbers of folds in {int(numbers.sum())} lines and "
                    f"{', '.join(words)} in others; expected the one or the other"
                )
            if not self.crosses:
                raise UsageError(
                    f"{self.labels.name}: the splits of {where} are numbers of folds; only classify probe and compare "
                    "cross-validate: give a column of train, val and test, or --make-splits 70/15/15"
                )
            given = lines["split"].where(numbers, "")
            count = given[given != ""].nunique()
            if count < 2 or (self.folds is not None and count != self.folds):
                wanted = f"{self.folds} folds, as --cross-validate says" if self.folds else "at least two folds"
                raise CohortError(f"{self.labels.name}: {where}: expected {wanted}, got {count}")
            return lines.assign(fold=given, split=given.where(given == "", "train"))
        if not self.origin.get("kind"):
            return lines.assign(fold="", split="train")
        if locked := int(lines.loc[lines["split"] == "test", "participant"].nunique()):
            tell(f"cross-validation: {locked} test participants of {where} stay locked, and in no fold")
        return lines.assign(fold="", split=lines["split"].where(lines["split"].isin(["", "test"]), "train"))

    def keep(self, lines: pd.DataFrame, task: Task, tell: Callable[[str], None]) -> None:
        """Write splits that were made next to the labels, and say so. Raises: CohortError where that cannot be."""
        if self.making is None:
            return
        sites = " and site" if len(set(lines["site"])) > 1 else ""
        how = f"by participant, stratified by {task.target}{sites}; target {task.target} of each {task.level}"
        owned = lines[lines["participant"] != ""].drop_duplicates("participant")
        split = dict(zip(owned["participant"], owned["split"], strict=True))
        write_splits_file(self.labels.parent / SPLITS_FILE, split, self.making, how)
        tell(
            f"splits: made {self.making.said}, {count_splits(split)} participants; kept in {SPLITS_FILE} next to "
            f"{self.labels.name}, for each later run on it"
        )


def _asked(lines: pd.DataFrame, task: Task) -> "pd.Series[bool]":
    """Mark the lines whose label the task takes."""
    if task.is_number:
        return (lines["group"] != "") & ~lines["group"].isin(task.exclude)
    return lines["group"].isin(list(task.class_of))


def say_splits(origin: Mapping[str, Any]) -> str:
    """Say where the splits of a record come from; "" where it does not say."""
    if origin.get("kind") == "column" and origin.get("official"):
        return f"as {origin['dataset']} was published; {say_shared(origin) or 'nobody lies in two parts'}"
    if origin.get("kind") == "column":
        return f"the column {origin['column']} of the labels"
    if "shares" in origin:
        return f"{origin['file']} next to the labels, made {write_shares(origin['shares'])}, seed {origin['seed']}"
    return f"{origin['file']} next to the labels" if "file" in origin else ""


def say_shared(origin: Mapping[str, Any]) -> str:
    """Warn of a published split that was asked for although it shares people; "" of any other."""
    if not (origin.get("official") and origin.get("shared_people")):
        return ""
    return (
        f"{origin['shared_people']} people lie in several parts of the published split of {origin['dataset']}, and "
        "count once in each: a number on val or test is too good for people who were never seen"
    )


def choose_splitting(
    labels: Path, *, asked: str, found: str, shares: Shares | None, seed: int, folds: int | None, crosses: bool
) -> Splitting:
    """Choose where the splits come from: what was asked for, else splits.csv next to the labels, else a column.

    asked: the column that was named, "" none; found: one whose name says it. splits.csv that was made from these labels
    comes before a column that nobody asked for. Raises: UsageError for splits.csv that was made otherwise than shares
    and seed say, CohortError where it is none, or there is no way at all; LeakError.
    """
    plain = Splitting({}, labels, None, None, folds, crosses)
    path = labels.parent / SPLITS_FILE
    is_there = not asked and path.exists() and path.resolve() != labels.resolve()
    kept = read_splits_file(path) if is_there and (shares or not found or is_made_from(path, labels)) else None
    if shares is not None:
        making = Making(shares, seed, labels.name)
        if kept is None:
            return replace(plain, origin=_origin_of(making, "made"), making=making)
        if kept.making is None or (kept.making.shares, kept.making.seed) != (shares, seed):
            was = f"made {kept.making.said}" if kept.making else "not made by --make-splits"
            raise UsageError(
                f"--make-splits {making.said}: {SPLITS_FILE} next to {labels.name} is there already, {was}; leave the "
                "option out to use it, or move it away to make others"
            )
    if kept is not None:
        origin = _origin_of(kept.making, "kept") if kept.making else {"kind": "kept", "file": SPLITS_FILE}
        return replace(plain, origin=origin | ({"column_not_used": found} if found else {}), kept=kept)
    if asked or found:
        return replace(plain, origin={"kind": "column", "column": asked or found})
    if folds is not None:
        return plain
    raise CohortError(
        f"--labels {labels.name}: expected to know who is train, val and test, found no column {SPLITS[0]}/{SPLITS[1]}/"
        f"{SPLITS[2]} (split) and no {SPLITS_FILE} next to it; give {THREE_WAYS}"
    )


def _origin_of(making: Making, kind: str) -> dict[str, Any]:
    return {
        "kind": kind, "file": SPLITS_FILE, "shares": list(making.shares), "seed": making.seed,
        "made_from": making.made_from,
    }  # fmt: skip
