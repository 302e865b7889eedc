"""Hundreds of ways to save the same tables, through every door: the plain table, a counted mend, or one error."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import fill_store, make_study
from command_line import Command

from classify.cohort.measurements import read_measurements
from classify.cohort.participants import read_participants
from classify.cohort.tasks import STUDY_GROUPS
from classify.errors import CohortError
from embeddings_store.errors import OctProbeError
from extract.bucket.participants import read_participant_ids
from extract.bucket.participants import read_participants as read_of_bucket

IDS = [str(1001 + number) for number in range(12)]
HBA1C = np.round(np.linspace(4.6, 9.1, 12), 1)
BMI = np.round(np.linspace(19.4, 38.2, 12), 1)
AGES = [f"{50 + number}.5" for number in range(12)]


@dataclass(frozen=True)
class Sheet:
    """A table before it is saved: cells of the header and of the lines, and how it will be saved."""

    cells: list[list[str]]
    encoding: str = "utf-8"
    separator: str = "\t"
    end: str = "\n"
    quotes: str = "where needed"
    comma: bool = False
    before: list[str] = field(default_factory=list)

    def save(self) -> bytes:
        lines = [*self.before, *(self.separator.join(map(self._cell, line)) for line in self.cells)]
        return (self.end.join(lines) + self.end).encode(self.encoding)

    def _cell(self, cell: str) -> str:
        if self.comma and cell.replace(".", "", 1).isdigit():
            cell = cell.replace(".", ",")
        quoted = self.quotes == "all" or self.separator in cell or "\n" in cell
        return '"' + cell.replace('"', '""') + '"' if quoted else cell


def people() -> Sheet:
    header = ["participant_id", "clinical_site", "study_group", "age", "note", "recommended_split", "retinal_oct"]
    lines = [
        [one, "Zürich", STUDY_GROUPS[at % 4], AGES[at], "µ-scan", ("train", "val", "test")[at // 4], "TRUE"]
        for at, one in enumerate(IDS)
    ]
    return Sheet([header, *lines])


def measured() -> Sheet:
    header = ["measurement_id", "person_id", "measurement_source_value", "value_as_number", "unit_source_value", "note"]
    lines = [["", one, "import_hba1c, HbA1c (%)", f"{HBA1C[at]}", "%", "für"] for at, one in enumerate(IDS)]
    lines += [["", one, "bmi_vsorres, BMI", f"{BMI[at]}", "kg/m2", ""] for at, one in enumerate(IDS)]
    lines = [[str(at), *line[1:]] for at, line in enumerate(lines)]
    return Sheet([header, *lines], separator=",")


def change(place: str, cell: Callable[[str], str]) -> Callable[[Sheet], Sheet]:
    """Change the cells of one column, but its header."""

    def spoil(sheet: Sheet) -> Sheet:
        at = sheet.cells[0].index(place)
        return replace(sheet, cells=[sheet.cells[0]] + [[*x[:at], cell(x[at]), *x[at + 1 :]] for x in sheet.cells[1:]])

    return spoil


def add(name: str, values: Callable[[list[str]], str], at: int = 99) -> Callable[[Sheet], Sheet]:
    """Put one more column at a place."""

    def spoil(sheet: Sheet) -> Sheet:
        new = [name, *map(values, sheet.cells[1:])]
        return replace(sheet, cells=[[*x[:at], new[n], *x[at:]] for n, x in enumerate(sheet.cells)])

    return spoil


def header(cell: Callable[[str], str]) -> Callable[[Sheet], Sheet]:
    return lambda sheet: replace(sheet, cells=[[*map(cell, sheet.cells[0])], *sheet.cells[1:]])


def own_id(sheet: Sheet) -> int:
    return next(at for at, name in enumerate(sheet.cells[0]) if name in ("participant_id", "person_id"))


def both_ids(other: Callable[[str], str]) -> Callable[[Sheet], Sheet]:
    def spoil(sheet: Sheet) -> Sheet:
        at = own_id(sheet)
        name = {"participant_id": "person_id", "person_id": "participant_id"}[sheet.cells[0][at]]
        return add(name, lambda line: other(line[at]), 1)(sheet)

    return spoil


def ids(cell: Callable[[str], str]) -> Callable[[Sheet], Sheet]:
    return lambda sheet: change(sheet.cells[0][own_id(sheet)], cell)(sheet)


def each_line(new: Callable[[list[str]], list[str]], *, first: bool = False) -> Callable[[Sheet], Sheet]:
    return lambda sheet: replace(sheet, cells=[(new(x) if n or first else x) for n, x in enumerate(sheet.cells)])


def at_line(number: int, new: Callable[[list[str]], list[str]]) -> Callable[[Sheet], Sheet]:
    return lambda sheet: replace(sheet, cells=[new(x) if n == number else x for n, x in enumerate(sheet.cells)])


SAVED = [
    {"encoding": encoding, "separator": separator, "end": end, "quotes": quotes, "comma": comma}
    for encoding, separator, end, quotes, comma in product(
        ("utf-8-sig", "utf-16", "cp1252"), ("\t", ",", ";", "|"), ("\n", "\r\n", "\r"), ("where needed", "all"),
        (False, True),
    )
]  # fmt: skip
"""144 ways to save a table that is sound; tests take some, since each meets all of its kind several times."""

SOUND: dict[str, Callable[[Sheet], Sheet]] = {
    "header in capitals": header(str.upper),
    "header with spaces": header(lambda name: f" {name.replace('_', ' ')} "),
    "header with dots": header(lambda name: name.replace("_", ".")),
    "header in title case": header(str.title),
    "both id columns": both_ids(str),
    "both id columns, one with zeros behind": both_ids(lambda one: f"{one}.0"),
    "both id columns, one empty": both_ids(lambda one: ""),
    "ids as 1001.0": ids(lambda one: f"{one}.0"),
    "ids with an apostrophe": ids(lambda one: f"'{one}"),
    "ids as a formula": ids(lambda one: f'="{one}"'),
    "ids with spaces": ids(lambda one: f" {one}\u00a0"),
    "row names": each_line(lambda line: [f"r{line[0]}-{line[1]}-{line[2]}", *line]),
    "a separator at the end": each_line(lambda line: [*line, ""], first=True),
    "separators at the end of lines": each_line(lambda line: [*line, "", ""]),
    "one separator at the end": at_line(5, lambda line: [*line, ""]),
    "a title": lambda sheet: replace(sheet, before=["# a study, 2024"]),
    "blank lines first": lambda sheet: replace(sheet, before=["", " "]),
    "sep=": lambda sheet: replace(sheet, before=[f"sep={sheet.separator}"]),
    "a blank line within": at_line(6, lambda line: [line[0], *line[1:-1], line[-1] + "\n"]),
    "lines of separators": lambda sheet: replace(sheet, cells=[*sheet.cells, [""] * 6, [""] * 6]),
    "an open quote in a note": lambda sheet: change("note", lambda note: '"odd')(replace(sheet, quotes="never")),
    "an inch in a note": change("note", lambda note: 'lens 5" thick'),
    "a line break in a note": change("note", lambda note: "one\ntwo"),
    "a separator in a note": change("note", lambda note: "one, two; three\tfour"),
    "a column twice that nobody reads": add("note", lambda line: "again"),
    "the columns the other way round": each_line(lambda line: line[::-1], first=True),
    "the lines the other way round": lambda sheet: replace(sheet, cells=[sheet.cells[0], *sheet.cells[:0:-1]]),
    "the header again": lambda sheet: replace(sheet, cells=[*sheet.cells[:6], sheet.cells[0], *sheet.cells[6:]]),
    "a comment among the lines": lambda sheet: replace(sheet, cells=[*sheet.cells[:6], ["# seen"], *sheet.cells[6:]]),
    "each line twice": lambda sheet: replace(sheet, cells=[*sheet.cells, *sheet.cells[1:]]),
    "a character of control at the end": lambda sheet: replace(sheet, cells=[*sheet.cells, ["\x1a"]], quotes="never"),
}
REFUSED: dict[str, Callable[[Sheet], Sheet]] = {
    "both id columns that differ": both_ids(lambda one: str(int(one) + 1)),
    "the id column twice": lambda sheet: add(sheet.cells[0][own_id(sheet)], lambda line: "1001")(sheet),
    "the id column twice, the same": lambda sheet: add(sheet.cells[0][own_id(sheet)], lambda line: line[1])(sheet),
    "one line of other cells": at_line(4, lambda line: ["1", *line]),
    "every line of other cells": each_line(lambda line: ["x", "x", *line]),
    "ids as 1.001E+12": ids(lambda one: "1.001E+12"),
    "ids as dates": ids(lambda one: "1-Mar"),
    "ids with thousands": ids(lambda one: f"{one[0]},{one[1:]}"),
    "no header": lambda sheet: replace(sheet, cells=sheet.cells[1:]),
    "a header alone": lambda sheet: replace(sheet, cells=sheet.cells[:1]),
}
ONLY_IDS = ("--participants", "bucket")
"""Doors that need no more of a line than the id."""

BROKEN: dict[str, Callable[[Sheet], Sheet]] = {
    "every line breaks off": each_line(lambda line: line[:2]),
    "a line that breaks off": at_line(7, lambda line: line[:2]),
}


def doors(folder: Path, table: bytes, values: bytes) -> Iterator[tuple[str, Callable[[], object], object]]:
    """Give each door as (name, what reads, what should come)."""
    places = folder / "people.tsv", folder / "measurement.csv"
    for place, data in zip(places, (table, values), strict=True):
        place.write_bytes(data)
    yield "probe, finetune", lambda: read_participants(places[0]), plain_people()
    yield "--participants", lambda: sorted(read_participant_ids(places[0])), IDS
    yield "bucket", lambda: sorted({one.participant for one in read_of_bucket(table)[0]}), IDS
    yield "--measurements", lambda: read_measurements(places[1]).table, plain_values()


def plain_people() -> pd.DataFrame:
    columns: dict[str, object] = {"site": "Zürich", "age": [float(age) for age in AGES], "flagged": "TRUE"}
    told = {"group": [STUDY_GROUPS[at % 4] for at in range(12)], "split": ["train"] * 4 + ["val"] * 4 + ["test"] * 4}
    return pd.DataFrame({"participant": IDS, **columns, **told})


def plain_values() -> pd.DataFrame:
    return pd.DataFrame({"participant": IDS, "hba1c": HBA1C, "bmi": BMI})


def is_equal(found: object, plain: object) -> bool:
    if isinstance(found, pd.DataFrame) and isinstance(plain, pd.DataFrame):
        return all(found[name].tolist() == plain[name].tolist() for name in plain)
    return bool(found == plain)


def outcomes(folder: Path, spoil: Callable[[Sheet], Sheet], **saved: object) -> dict[str, str]:
    """Say of each door what came: "plain", "other", or the words of an error."""
    said = {}
    tables = [spoil(replace(sheet(), **saved)).save() for sheet in (people, measured)]
    for name, read, plain in doors(folder, *tables):
        try:
            said[name] = "plain" if is_equal(read(), plain) else f"other: {read()}"
        except OctProbeError as error:
            said[name] = str(error)
    return said


def test_a_sound_table_is_the_same_however_it_is_saved(tmp_path: Path) -> None:
    for saved in SAVED[::5]:
        assert set(outcomes(tmp_path, lambda sheet: sheet, **saved).values()) == {"plain"}, saved


@pytest.mark.parametrize("name", SOUND)
def test_oddities_without_two_meanings_change_nothing(tmp_path: Path, name: str) -> None:
    for saved in SAVED[::29]:
        found = outcomes(tmp_path, SOUND[name], **saved)
        assert set(found.values()) == {"plain"}, (saved, found)


@pytest.mark.parametrize("name", REFUSED)
def test_two_meanings_are_one_error(tmp_path: Path, name: str) -> None:
    for saved in SAVED[::29]:
        found = outcomes(tmp_path, REFUSED[name], **saved)
        assert not [door for door, words in found.items() if words.startswith(("plain", "other"))], (saved, found)


@pytest.mark.parametrize("name", BROKEN)
def test_a_line_that_breaks_off_says_no_more_than_its_id(tmp_path: Path, name: str) -> None:
    for saved in SAVED[::29]:
        for door, words in outcomes(tmp_path, BROKEN[name], **saved).items():
            assert ("breaks off" in words) if door not in ONLY_IDS else words == "plain", (saved, door, words)


VALUES: dict[str, float | None] = {
    **dict.fromkeys(
        ("6.5", "6,5", " 6.5 ", "6.5%", "6,5 %", "6.50", "+6.5", "'6.5", '="6.5"', "６.５", "6.5 percent"), 6.5
    ),
    **dict.fromkeys(("48 mmol/mol", "48mmol/mol"), 6.54),
    **dict.fromkeys((">14", "> 14", ">=14", "≥14", "14+", "14 or more"), 14.0),
    **dict.fromkeys(("<5", "≤5"), 5.0),
    **dict.fromkeys(("", "NA", "n/a", "-", ".", "unknown", "#N/A", "NaN"), None),
    **dict.fromkeys(
        ("6..5", "6:5", "6'5", "6·5", "6-7", "6.5/7.1", "6.5-7", "6 5", "1.234,5", "6,500", "six", "65%"), None
    ),
    **dict.fromkeys(
        ("13.5 g/dL", "6.5 ± 0.2", "6.5; 7.0", "05.06.2024", "6.Mai", "(6.5)", "6.5?", "1e400", "-6.5"), None
    ),
}
"""One cell of HbA1c among eleven sound ones, and what it is."""


@pytest.mark.parametrize("cell", VALUES)
def test_a_value_is_right_or_missing_and_counted(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "measurement.csv"
    sheet = measured()
    path.write_bytes(at_line(3, lambda line: [*line[:3], cell, *line[4:]])(sheet).save())
    found = read_measurements(path)
    value, right = found.table["hba1c"][2], VALUES[cell]
    assert value == right if right is not None else np.isnan(value)
    counts = found.counts["hba1c"]
    assert counts["rows"] == 12
    assert counts["no_number"] + counts["out_of_range"] == (right is None)
    assert found.table["hba1c"].drop(2).tolist() == np.delete(HBA1C, 2).tolist()
    is_plain = cell.strip(" +'=\"") in {
        "6.5",
        "６.５",
        "6.50",
        "6.5%",
        "6.5 percent",
        "",
        "NA",
        "n/a",
        "-",
        ".",
        "unknown",
        "#N/A",
        "NaN",
    }
    assert bool(found.notes) != is_plain, found.notes


AGES_WRITTEN: dict[str, float | str | None] = {
    **dict.fromkeys(("61.5", "61,5", "61.5 years", "61,5 y", "'61.5"), 61.5),
    **dict.fromkeys((">89", "89+", ">= 89", "89 or older", "≥89"), 89.0),
    **dict.fromkeys(("", "NA", "unknown", "#N/A"), None),
    **dict.fromkeys(
        ("6 1", "61-65", "61/2", "61 months", "1961-04-02", "61'5", "6·5", "sixty", "61 kg", "1,234"), "refused"
    ),
}


@pytest.mark.parametrize("cell", AGES_WRITTEN)
def test_an_age_is_right_missing_or_refused(tmp_path: Path, cell: str) -> None:
    path, right = tmp_path / "people.tsv", AGES_WRITTEN[cell]
    path.write_bytes(at_line(3, lambda line: [*line[:3], cell, *line[4:]])(people()).save())
    if right == "refused":
        with pytest.raises(CohortError, match="line 4, column age"):
            read_participants(path)
        return
    value = read_participants(path)["age"][2]
    assert value == right if right is not None else np.isnan(value)


@pytest.mark.parametrize("door", ["probe", "finetune", "extract"])
def test_every_command_refuses_in_words(tmp_path: Path, command: Command, door: str) -> None:
    store, bucket = tmp_path / "store", tmp_path / "bucket"
    (bucket / "retinal_oct").mkdir(parents=True)
    study = make_study(32)
    fill_store(study, store)
    for place in (tmp_path / "people.tsv", tmp_path / "measurement.csv"):
        place.write_bytes(both_ids(lambda one: str(int(one) + 1))(people()).save())
    study.write(tmp_path)
    people_of = ("--participants", tmp_path / "people.tsv")
    asked: tuple[object, ...] = {
        "probe": ("classify", "probe", "--model", "dummy", "--store", store, *people_of, "--runs", tmp_path / "runs"),
        "finetune": (
            "finetune",
            "--bucket",
            bucket,
            *people_of,
            "--encoder",
            "random:tiny",
            "--runs",
            tmp_path / "runs",
        ),
        "extract": (
            "extract-embeddings",
            "--bucket",
            bucket,
            "--store",
            tmp_path / "new",
            "--encoder",
            "random:tiny",
            *people_of,
        ),
    }[door]
    done = command(*map(str, asked))
    assert (done.code, "Traceback" in done.stderr) == (1, False), done.stderr
