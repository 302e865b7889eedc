"""Splits that were made, not given: by label and site of participants, kept in splits.csv next to the labels.

The file is an ordinary table (participant, split) below one comment line that says how it was made; whoever has splits
of their own may write it by hand, without the comment.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from classify.cohort.participants import SPLIT_WORDS
from classify.cohort.questions import Task
from classify.cohort.splits import SPLITS, strata_of
from classify.errors import CohortError, LeakError
from embeddings_store.cells import broken_id, is_missing, normalise_id, quoted_cell
from embeddings_store.errors import UsageError
from embeddings_store.publish import published
from embeddings_store.text_table import ID_NAMES, Line, TextTable, open_table, read_file, require_match

SPLITS_FILE = "splits.csv"
OWNERS = ("participant", *ID_NAMES, "patient_id", "patient", "subject_id", "subject")
SPLIT_COLUMNS = ("split", "recommended_split")
FEWEST = 3
"""Participants of a class, of which each of the three splits needs one."""

HOW = re.compile(r"shares\s+([\d.]+/[\d.]+/[\d.]+)\W+seed\s+(\d+)\W+.*made from (.+) \(\d+ participants\)")
COMMENT_BYTES = 4096
QUOTED_COMMENT = re.compile(rb'\A(\xef\xbb\xbf)?"(#)')
"""A spreadsheet quotes a comment in which its separator stands."""

Shares = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Making:
    """How splits were made, or shall be. made_from: name of the table of labels."""

    shares: Shares
    seed: int
    made_from: str

    @property
    def said(self) -> str:
        """Shares and seed, as they are typed."""
        return f"{write_shares(self.shares)}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class SplitsFile:
    """What a splits file says. split: by participant; making: None where it was written by hand."""

    path: Path
    split: Mapping[str, str]
    making: Making | None


def parse_shares(text: str) -> Shares:
    """Read ``70/15/15``. Raises: UsageError.

    >>> parse_shares("70/15/15")
    (70.0, 15.0, 15.0)
    """
    try:
        return check_shares(tuple(float(part) for part in text.split("/")), text)
    except ValueError as error:
        raise _wrong_shares(text) from error


def check_shares(shares: Sequence[float], text: str | None = None) -> Shares:
    """Return the shares of train, val and test in percent. Raises: UsageError where they are none."""
    text = text or "/".join(map(str, shares))
    if len(shares) != len(SPLITS) or not all(0 < share < 100 for share in shares):
        raise _wrong_shares(text)
    whole = 1 if max(shares) < 1 else 100
    if abs(sum(shares) - whole) > 1e-6 * whole:
        raise _wrong_shares(f"{text}, which is {sum(shares):g} in all")
    train, val, test = (round(100 * share / whole, 6) for share in shares)
    return train, val, test


def _wrong_shares(got: str) -> UsageError:
    return UsageError(
        f"--make-splits: expected shares of train, val and test above 0 that sum to 100, such as 70/15/15, got {got}"
    )


def write_shares(shares: Sequence[float]) -> str:
    """Write shares as they are typed."""
    return "/".join(f"{share:g}" for share in shares)


def deal_splits(lines: pd.DataFrame, task: Task, making: Making) -> dict[str, str]:
    """Give every participant of a table of labels a split, class by class and in it site by site.

    lines: participant, group and site; of a participant with several classes the rarest counts, of numbers fifths of
    the participants' means; whoever has no label of the task is taken as a class of its own. The order of the lines
    does not matter. Raises: CohortError where a class has fewer participants than there are splits.
    """
    known = lines[lines["participant"] != ""]
    names, person = np.unique(known["participant"].to_numpy(str), return_inverse=True)
    stratum = _strata(known, task, person, len(names))
    site = known.groupby("participant")["site"].min().reindex(names).to_numpy(str)
    rng, found = np.random.default_rng(making.seed), np.full(len(names), SPLITS[0], dtype=object)
    owed = np.zeros(len(SPLITS))
    for value in np.unique(stratum):
        members = np.flatnonzero(stratum == value)
        if value >= 0 and len(members) < FEWEST:
            what = f"{task.classes[value]} has" if task.classes else "a fifth of the numbers have"
            raise CohortError(
                f"--make-splits {write_shares(making.shares)}: every class needs a participant in train, val and test, "
                f"and {what} {len(members)}; join it with another class, or judge everybody by --cross-validate"
            )
        place = {name: number for number, name in enumerate(rng.permutation(np.unique(site[members])))}
        of_site = np.array([place[name] for name in site[members]], dtype=np.int64)
        order = np.lexsort((rng.random(len(members)), of_site))
        sizes, owed = _sizes(len(members), making.shares, owed, each=bool(value >= 0))
        found[members[order]] = _spread(sizes)
    return dict(zip(names.tolist(), found.tolist(), strict=True))


def _strata(known: pd.DataFrame, task: Task, person: np.ndarray, people: int) -> np.ndarray:
    """Return the class of each participant, by the rarest of several; -1 without one."""
    if task.is_number:
        values = [task.number_of(text) for text in known["group"]]
        label = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        label[known["group"].isin(task.exclude).to_numpy()] = np.nan
        here = np.isfinite(label)
    else:
        label = np.array([task.class_of.get(value, -1) for value in known["group"]], dtype=np.int64)
        here = label >= 0
    owners, own = np.unique(person[here], return_inverse=True)
    found = np.full(people, -1, dtype=np.int64)
    if len(owners):
        found[owners] = strata_of(label[here], own)
    return found


def _sizes(
    count: int, shares: Shares, owed: Float64[np.ndarray, " 3"], *, each: bool
) -> tuple[Int64[np.ndarray, " 3"], Float64[np.ndarray, " 3"]]:
    """Return how many of so many people each split gets, and what rounding still owes it, for the next class.

    each: every split gets one at least.
    """
    wanted = np.array(shares) / 100 * count + owed
    sizes = np.floor(np.clip(wanted, 0, None)).astype(np.int64)
    while sizes.sum() != count:
        step = 1 if sizes.sum() < count else -1
        sizes[np.where(sizes + step < 0, -np.inf, step * (wanted - sizes)).argmax()] += step
    still = wanted - sizes
    while each and sizes.min() < 1:
        sizes[sizes.argmax()] -= 1
        sizes[sizes.argmin()] += 1
    return sizes, still


def _spread(sizes: Int64[np.ndarray, " 3"]) -> list[str]:
    """Return the splits of a row of people, each stretch of which has the shares as nearly as it can."""
    given, found = np.zeros(len(SPLITS), np.int64), []
    for number in range(1, int(sizes.sum()) + 1):
        behind = np.where(given < sizes, sizes * number / sizes.sum() - given, -np.inf)
        given[behind.argmax()] += 1
        found.append(SPLITS[int(behind.argmax())])
    return found


def read_splits_file(path: Path) -> SplitsFile:
    """Read participant and split of each line, and how they were made.

    Raises: CohortError where it is no such table, LeakError where a participant stands in two splits.
    """
    where = f"{path.name} next to the labels"
    data = read_file(path, where, CohortError)
    data = QUOTED_COMMENT.sub(rb"\1\2", data)
    table = open_table(data, where, CohortError, (*OWNERS, *SPLIT_COLUMNS))
    owner, column = (next((name for name in names if table.has(name)), "") for names in (OWNERS, SPLIT_COLUMNS))
    if not owner or not column:
        raise table.refuse(
            ", ".join(table.names[:8]),
            f"the columns participant and split; move {path.name} away if it is something else",
        )
    found: dict[str, str] = {}
    for line in table.read((column,), ("participant",)):
        own = line.participant or normalise_id(line.cells.get("participant", ""))
        if not own or (spoilt := broken_id(own)):
            raise table.refuse(f"{spoilt}; save the ids as text" if own else "none", "a participant's id", line.number)
        split = read_split(line.cells[column], line, table, column)
        if found.setdefault(own, split) != split:
            raise LeakError(
                f"{where}: participant {own} stands in two splits, {found[own] or 'none'} and {split or 'none'}; keep "
                "one line for each"
            )
    return SplitsFile(path, found, _read_making(table.lines[: table.first]))


def is_made_from(path: Path, labels: Path) -> bool:
    """Return whether a splits file says that it was made from a table of labels; whatever else it may be."""
    how = HOW.search(read_file(path, path.name, CohortError)[:COMMENT_BYTES].decode("utf-8", errors="replace"))
    return how is not None and how[3] == labels.name


def _read_making(above: Sequence[str]) -> Making | None:
    """Read the comment above the header, however a spreadsheet saved it."""
    how = next((found for line in above if (found := HOW.search(line))), None)
    return Making(parse_shares(how[1]), int(how[2]), how[3]) if how else None


def read_split(text: str, line: Line, table: TextTable, column: str) -> str:
    """Return the split that a cell says, the number of a fold in digits, or "" where it is empty."""
    if not text or is_missing(text):
        return ""
    number = re.fullmatch(r"(\d{1,6})(?:\.0+)?", text)
    split = str(int(number[1])) if number else SPLIT_WORDS.get(text.lower())
    if split is None:
        raise table.refuse(repr(text[:40]), f"one of {', '.join(SPLITS)}, or the number of a fold", line.number, column)
    return split


def check_fit(found: SplitsFile, people: frozenset[str], labelled: frozenset[str], labels: str) -> list[str]:
    """Return what to say of a splits file that fits these people of a table of labels.

    Raises: CohortError where it is of other people, or lacks somebody who has a label.
    """
    where, known = f"{found.path.name} next to {labels}", frozenset(found.split)
    cure = f"move it away and make others with --make-splits, or add them to it ({labels} and it must stay together)"
    require_match(people, known, f"--labels {labels}", CohortError, f"{found.path.name} next to it")
    if missing := sorted(one for one in labelled if not found.split.get(one)):
        raise CohortError(
            f"{where}: {len(missing)} participants with a label have no split in it, such as "
            f"{', '.join(missing[:4])}; {cure}"
        )
    more = len(known - people)
    return [f"{where}: {more} of its {len(known)} participants are not in {labels}"] if more else []


def write_splits_file(path: Path, split: Mapping[str, str], making: Making, how: str) -> None:
    """Keep made splits next to the labels, whole; what lies there already stays.

    how: what they were made by, for the comment line. Raises: CohortError where the folder cannot be written, or
    another file was put there meanwhile.
    """
    if path.exists():
        if dict(read_splits_file(path).split) == dict(split):
            return
        raise CohortError(f"--make-splits: {path.name} was written by somebody else meanwhile; start again to use it")
    try:
        with published(path, alone=True) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            shares, seed, made_from = write_shares(making.shares), making.seed, making.made_from
            file.write(f"# splits by octprobe: shares {shares}; seed {seed}; {how}; made from {made_from} ")
            file.write(f"({len(split)} participants)\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("participant", "split"))
            writer.writerows((quoted_cell(person), part) for person, part in sorted(split.items()))
    except OSError as error:
        raise CohortError(
            f"--make-splits: expected a folder that {path.name} can be written to, next to {making.made_from}, got: "
            f"{error.strerror}; copy the labels to a folder of yours"
        ) from error


def count_splits(split: Mapping[str, str]) -> str:
    """Say how many participants each split has."""
    counts = Counter(split.values())
    return ", ".join(f"{counts[name]} {name}" for name in SPLITS)
