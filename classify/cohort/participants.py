"""Read participants.tsv (v2: participant_id, v3: person_id) into one exact table."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from classify.cohort.splits import SPLITS
from classify.cohort.tasks import STUDY_GROUPS
from classify.errors import CohortError, LeakError
from embeddings_store.cells import NO, YES, is_missing, read_number
from embeddings_store.text_table import ID_NAMES, Line, TextTable, fold_name, open_table, read_file

NEEDED = ("study_group", "recommended_split")
WANTED = ("clinical_site", "age", "retinal_oct")
"""Columns that a table may lack: their absence is said, and noted in the flow."""

OLDEST_YEARS = 120
YEARS = frozenset(("", "y", "yr", "yrs", "yo", "y.o.", "year", "years", "years old", "a", "j", "jahre"))
SPLIT_WORDS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"} | {x: x for x in SPLITS}
TOTALS = frozenset(("total", "totals", "sum", "mean", "average", "median", "count", "sd", "summe", "gesamt"))

COLUMNS = ("participant", "site", "group", "age", "split", "flagged")
"""site, group, split: text, "" where empty. age: years, NaN where missing. flagged: "TRUE", "FALSE" or ""."""

Person = dict[str, str | float]


def read_participants(path: Path, tell: Callable[[str], None] = lambda _: None) -> pd.DataFrame:
    """Read the participants table: one line a participant, the columns of COLUMNS, sorted by participant.

    tell: hears what was mended, with counts. Raises: CohortError where the file, a column or an id is missing, a value
    cannot be read, or a participant stands on two lines that differ; LeakError where the lines differ in the split.
    """
    where = f"participants table {path.name}"
    data = read_file(path, where, CohortError)
    table = open_table(data, where, CohortError, (*ID_NAMES, *NEEDED, *WANTED))
    _refuse_missing_columns(table)
    people: dict[str, tuple[int, Person]] = {}
    groups: Counter[str] = Counter()
    for line in table.read(NEEDED, WANTED):
        _refuse_no_person(line, table)
        person = _read_person(line, table)
        if line.participant in people:
            _require_same(person, line.number, people[line.participant], table)
            continue
        people[line.participant] = line.number, person
        if not (person["group"] or person["split"]):
            table.notes["lines have an id and neither group nor split (totals?), and are left out"] += 1
        groups[str(person["group"])] += 1
    if not people:
        raise table.refuse("a header alone", "at least one participant")
    found = [person for _, person in people.values()]
    _check_groups(groups, table)
    _check_filled(found, table)
    for said in table.said():
        tell(said)
    read = pd.DataFrame(found, columns=list(COLUMNS)).astype({"age": np.float64})
    return read.sort_values("participant", ignore_index=True)


def _refuse_missing_columns(table: TextTable) -> None:
    """Refuse a table without what every use needs, and one that has what it lacks under another name."""
    ids = " or ".join(ID_NAMES)
    missing = [name for name in NEEDED if not table.has(name)] + [ids] * (not any(map(table.has, ID_NAMES)))
    if missing:
        raise CohortError(
            f"{table.where}: expected the columns {', '.join((ids, *NEEDED))}; missing: {', '.join(missing)}; "
            f"found {', '.join(table.names[:8])}; give the dataset's own participants.tsv"
        )
    for name in WANTED:
        word = name.rpartition("_")[2]
        other = [one for one in table.names if word in one.replace("(", "_").split("_")]
        if not table.has(name) and name != "retinal_oct":
            if other:
                raise table.refuse(f"{other[0]}; rename it, or delete it if it is something else", f"a column {name}")
            table.notes[f"the column {name} is not there"] += 1


def _refuse_no_person(line: Line, table: TextTable) -> None:
    filled = [line.cells[name] for name in NEEDED if line.cells[name]]
    if line.participant.lower().rstrip(":") in TOTALS and not filled:
        raise table.refuse(f"{line.participant!r}, a line of totals; delete it", "a participant", line.number)
    if not line.participant:
        found = "an empty one (merged cells?); fill it, or delete the line"
        raise table.refuse(found, "an id", line.number, "/".join(name for name in ID_NAMES if table.has(name)))


def _read_person(line: Line, table: TextTable) -> Person:
    cells = line.cells
    return {
        "participant": line.participant,
        "site": cells.get("clinical_site", ""),
        "group": _read_group(cells["study_group"], table),
        "age": read_age_years(cells.get("age", ""), line, table),
        "split": _read_split(cells["recommended_split"], line, table),
        "flagged": _read_flag(cells.get("retinal_oct", ""), table),
    }


def _read_group(text: str, table: TextTable) -> str:
    """Give the study group by its letters alone; what is none of them comes back as it stands."""
    folded = "".join(filter(str.isalnum, text.lower()))
    known = next((group for group in STUDY_GROUPS if group.replace("_", "") == folded), "")
    if known and known != text:
        table.notes["study groups were written otherwise (capitals, spaces)"] += 1
    return known or ("" if is_missing(text) else text)


def _read_split(text: str, line: Line, table: TextTable) -> str:
    if is_missing(text):
        return ""
    split = SPLIT_WORDS.get(text.lower())
    if split is None:
        raise table.refuse(repr(text), f"one of {', '.join(SPLITS)}", line.number, "recommended_split")
    if split != text:
        table.notes[f"splits were written {text!r} and read as {split}"] += 1
    return split


def _read_flag(text: str, table: TextTable) -> str:
    if text.lower() in YES | NO:
        return "TRUE" if text.lower() in YES else "FALSE"
    if text and not is_missing(text):
        table.notes["cells of retinal_oct are neither TRUE nor FALSE"] += 1
    return ""


def read_age_years(text: str, line: Line, table: TextTable, column: str = "age") -> float:
    """Read an age; >89 and 89+ are 89, a number that is no age is missing (NaN), and both are counted."""
    if is_missing(text):
        return float("nan")
    number = read_number(text)
    if number is None or number.unit not in YEARS:
        found = repr(text) if len(text) < 20 else "words"
        raise table.refuse(found, "an age in years, or an empty cell", line.number, column)
    if not 0 <= number.value <= OLDEST_YEARS:
        table.notes[f"ages are not between 0 and {OLDEST_YEARS} years and count as missing"] += 1
        return float("nan")
    for written, happened in (
        ("with a decimal comma", number.comma),
        ("as a limit, such as >89 or 89+, and read as that limit (top-coded)", number.bound),
        ("with a unit", bool(number.unit)),
    ):
        if happened:
            table.notes[f"ages were written {written}"] += 1
    return number.value


def _require_same(person: Person, number: int, earlier: tuple[int, Person], table: TextTable) -> None:
    """Pass a line that says what an earlier one says, and refuse one that does not; NaN is no difference."""
    first, other = earlier
    differs = [name for name in COLUMNS if person[name] != other[name] and person[name] == person[name]]
    if "split" in differs and person["split"] and other["split"]:
        raise LeakError(
            f"participants in two splits of {table.where}: {person['participant']} (lines {first} and {number}); "
            f"keep one split for each"
        )
    if differs:
        found = f"another {differs[0]} than in line {first}; keep one of the lines"
        raise table.refuse(found, "a participant on one line", number, differs[0])
    table.notes["lines repeat a participant with the same values and were left out"] += 1


def _check_groups(groups: Mapping[str, int], table: TextTable) -> None:
    """Refuse a table most of whose groups are unknown, or one of whose groups is a known one misspelt."""
    known = sum(groups.get(group, 0) for group in STUDY_GROUPS)
    unknown = {group: count for group, count in groups.items() if group and group not in STUDY_GROUPS}
    misspelt = [group for group in unknown if get_close_matches(fold_name(group), STUDY_GROUPS, cutoff=0.8)]
    if unknown and (misspelt or sum(unknown.values()) > known):
        found = ", ".join(f"{group[:80]!r} ({count})" for group, count in list(unknown.items())[:6])
        raise table.refuse(found, f"the groups {', '.join(STUDY_GROUPS)}", column="study_group")
    for group, count in unknown.items():
        table.notes[f"participants are of the group {group[:80]!r}, which is none of the four, and are left out"] += (
            count
        )


def _check_filled(people: Sequence[Person], table: TextTable) -> None:
    """Refuse a column that is filled for fewer than half where it is filled at all: merged cells, a broken export."""
    for name, column in (("group", "study_group"), ("split", "recommended_split"), ("site", "clinical_site")):
        empty = sum(not person[name] for person in people)
        if len(people) > empty > len(people) / 2:
            found = f"{empty} of {len(people)} lines where it is empty (merged cells?); fill them"
            raise table.refuse(found, "a value on each line", column=column)
    ages = table.notes[f"ages are not between 0 and {OLDEST_YEARS} years and count as missing"]
    if 2 * ages > len(people) > 1:  # -9 or 999 of a few means missing
        raise table.refuse(f"{ages} of {len(people)} that cannot be", "ages in years", column="age")
