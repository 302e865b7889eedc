"""Slips that people make with spreadsheets, through the command line: the plain result, or one error; no traceback."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from classify_study import Study, fill_store, make_study
from command_line import Command, Finished

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import TASKS

Spoil = Callable[[Study], bytes]


def as_text(people: pd.DataFrame, separator: str = "\t") -> str:
    return people.to_csv(sep=separator, index=False)


def lines(change: Callable[[list[str]], list[str]]) -> Spoil:
    """Change the lines of the plain table; the header is line 0."""
    return lambda study: ("\n".join(change(as_text(study.people).splitlines())) + "\n").encode()


def column(name: str, change: Callable[[pd.Series], object]) -> Spoil:
    """Put what change makes of a column into its place."""
    return lambda study: as_text(study.people.assign(**{name: change(study.people[name])})).encode()


def first(name: str, value: str) -> Spoil:
    """Put a value into the first cell of a column."""
    return column(name, lambda old: [value, *old[1:]])


def zipped(study: Study) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", as_text(study.people))
    return packed.getvalue()


def merged(old: pd.Series) -> list[str]:
    return [value if number % 4 == 0 else "" for number, value in enumerate(old)]


RIGHT: dict[str, Spoil] = {
    "spaces behind ids and words": lambda study: as_text(study.people).replace("\t", "  \t").encode(),
    "non-breaking spaces": column("study_group", lambda old: "\u00a0" + old + "\u202f"),
    "typographic quotes": column("recommended_split", lambda old: "“" + old + "”"),
    "an empty first column": lines(lambda old: ["\t" + line for line in old]),
    "empty columns and lines at the end": lines(lambda old: [*(line + "\t\t" for line in old), "\t\t\t", ""]),
    "units in the cells": column("age", lambda old: old + " years"),
    "flags as yes": column("retinal_oct", lambda _: "yes"),
    "flags as True": column("retinal_oct", lambda _: "True"),
    "numbers as 61.0": column("age", lambda old: old + ".0"),
    "ids as 1001.0": column("participant_id", lambda old: old + ".0"),
    "capitals": lambda study: as_text(study.people).upper().encode(),
    "a title in words with #": lambda study: b"# my study, 2024\n" + as_text(study.people).encode(),
    "sep=; of Excel": lambda study: ("sep=;\r\n" + as_text(study.people, ";")).encode("utf-16"),
    "an extra column of notes with quotes": lines(
        lambda old: [old[0] + "\tnote", *(line + '\t"left eye 5" lens' for line in old[1:])]
    ),
}
REFUSED: dict[str, tuple[Spoil, str]] = {
    "a title above the header": (lines(lambda old: ["My study", *old]), "line 2 looks like the header"),
    "merged cells of a group": (column("study_group", merged), "column study_group: expected a value on each line"),
    "merged cells of a split": (column("recommended_split", merged), "column recommended_split: expected a value"),
    "merged cells of the id": (column("participant_id", merged), "line 3, column participant_id: expected an id"),
    "an id that became a date": (first("participant_id", "1-Mar"), "line 2, column participant_id: .* a date"),
    "an id that was rounded": (first("participant_id", "1.00E+12"), "line 2, column participant_id: .* rounded"),
    "ids with thousands separators": (
        column("participant_id", lambda old: old.str[0] + "," + old.str[1:]),
        "line 2, column participant_id: .* thousands separators",
    ),
    "a formula that failed": (column("participant_id", lambda _: "#N/A"), "column participant_id: .* a formula"),
    "a header twice": (lines(lambda old: [old[0] + "\tAge", *(line + "\t1" for line in old[1:])]), "columns 4 and 8"),
    "a line of totals": (lines(lambda old: [*old, "Total\t\t\t58\t\t\t"]), "line 34: .* a line of totals"),
    "percent signs": (column("age", lambda old: old + "%"), "line 2, column age: .* years"),
    "words for numbers": (first("age", "forty"), "line 2, column age: expected an age in years.* got 'forty'"),
    "dates of birth": (column("age", lambda _: "1961-04-02"), "line 2, column age: .* got '1961-04-02'"),
    "thousands in the age": (first("age", "61,000"), "line 2, column age: .* got '61,000'"),
    "ages of 999": (column("age", lambda _: "999"), "column age: expected ages in years, got 32 of 32"),
    "negative ages": (column("age", lambda old: "-" + old), "column age: expected ages in years, got 32 of 32"),
    "a name in another spelling": (column("study_group", lambda _: "control"), r"'control' \(32\)"),
    "a misspelt group": (first("study_group", "healty"), r"'healty' \(1\)"),
    "an unknown split": (first("recommended_split", "holdout"), "line 2, column recommended_split: .* 'holdout'"),
    "a split of numbers": (column("recommended_split", lambda _: "1"), "recommended_split: .*train, val, test"),
    "mixed separators": (lines(lambda old: [old[0], *(x.replace("\t", ";") for x in old[1:])]), "line 2: expected 7"),
    "a decimal comma in a comma table": (
        lambda study: as_text(study.people, ",").replace(",2023-", ",5,2023-").encode(),
        "line 2: expected 7 cells, as in the header, got 8; is a comma part of a cell",
    ),
    "another name of the age": (lines(lambda old: [old[0].replace("age", "Age (years)"), *old[1:]]), "column age"),
    "a workbook by the name of csv": (zipped, "an Excel workbook"),
    "a web page": (lambda _: b"<html><body><table><tr><td>1001</td></tr></table></body></html>", "a web page"),
    "rich text": (lambda _: rb"{\rtf1\ansi participant_id\tab}", "a rich text document"),
    "an empty file": (lambda _: b"", "an empty file"),
    "only blank lines": (lambda _: b"\r\n\r\n", "an empty file"),
    "a header alone": (lines(lambda old: old[:1]), "a header alone"),
    "no header": (lines(lambda old: old[1:]), "expected a header with participant_id or person_id"),
    "two answers for one person": (
        lines(lambda old: [*old, old[1].replace("2023-08-01\ttrain", "\tval")]),
        "two splits",
    ),
    "cut off in a cell": (lambda study: as_text(study.people).encode("utf-16")[:-3], "UTF-16 that breaks off"),
}


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(32)


@pytest.fixture(scope="module")
def store(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slips") / "store"
    fill_store(study, folder)
    return folder


@pytest.fixture(scope="module")
def plain(study: Study, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the cohort that the table gives as it was."""
    people = read_participants(study.write(tmp_path_factory.mktemp("plain")))
    return join_cohort(study.stored.index, study.stored.pooled, people, TASKS["four-class"]).sha256


@pytest.fixture
def probe(store: Path, tmp_path: Path, command: Command) -> Callable[[bytes], Finished]:
    def run(table: bytes) -> Finished:
        (tmp_path / "people.csv").write_bytes(table)
        plain = ("--layer", "last", "--pool", "mean", "--aggregate", "mean-logits", "--replicates", 5, "--json")
        place = ("--participants", tmp_path / "people.csv", "--runs", tmp_path / "runs")
        return command("classify", "probe", "--model", "dummy", "--store", store, *place, *plain)

    return run


@pytest.mark.parametrize("name", RIGHT)
def test_a_slip_without_two_meanings_changes_nothing(
    study: Study, probe: Callable[[bytes], Finished], plain: str, name: str
) -> None:
    done = probe(RIGHT[name](study))
    assert done.code == 0, done.stderr
    assert done.json["cohort_sha256"] == plain
    assert all(note in " ".join(done.stderr.split()) for note in done.json["table_notes"])


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_slip_is_one_error(
    study: Study, probe: Callable[[bytes], Finished], name: str, tmp_path: Path
) -> None:
    spoil, message = REFUSED[name]
    done = probe(spoil(study))
    assert (done.code, done.stdout) == (1, "")
    said = " ".join(done.stderr.split())
    assert pd.Series([said]).str.contains(message)[0], said
    assert "people.csv" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "runs").glob("*"))


def test_ids_that_lost_their_zeros_are_refused(tmp_path: Path, command: Command) -> None:
    study = make_study(32)
    study.people["participant_id"] = "0" + study.people["participant_id"]
    study.stored.index["participant"] = "0" + study.stored.index["participant"]
    fill_store(study, tmp_path / "store")
    study.people["participant_id"] = study.people["participant_id"].str.lstrip("0")
    study.write(tmp_path)
    asked = ("--store", tmp_path / "store", "--participants", tmp_path / "participants.tsv")
    done = command("classify", "probe", "--model", "dummy", *asked, "--runs", tmp_path / "runs")
    assert done.code == 1
    assert "32 lost their leading zeros: save the ids as text" in " ".join(done.stderr.split())
