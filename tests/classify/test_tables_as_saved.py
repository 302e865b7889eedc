"""Tables as people save them: the plain table where the meaning is clear, else one error."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classify.cohort.measurements import Measurements, read_measurements
from classify.cohort.participants import read_participants
from classify.cohort.pretraining import read_pretraining
from classify.errors import CohortError

SAME = (
    "apostrophe_ids.tsv", "blank_tab_lines.tsv", "bom.tsv", "both_ids.tsv", "comma.csv", "cr.tsv", "crlf.tsv",
    "excel_formula_ids.tsv", "float_ids.tsv", "index_col.tsv", "index_nohead.tsv", "nbsp_ids.tsv", "note_inch.tsv",
    "note_quoted_tab.tsv", "quoted_all.tsv", "r_writetable.tsv", "ref.tsv.gz", "semicolon.csv", "space_header.tsv",
    "trailing_tab_both.tsv", "upper_header.tsv", "zwsp_ids.tsv",
)  # fmt: skip
MENDED = {
    "blank_lines.tsv": "60 blank lines were left out",
    "comment_top.tsv": "1 lines above the header were left out",
    "dup_same.tsv": "1 lines repeat a participant with the same values",
    "latin1.tsv": "read as Windows-1252",
    "midnote_two_quotes.tsv": "2 quotes were opened and not closed",
    "mixedcase_group.tsv": "60 study groups were written otherwise",
    "mixedcase_split.tsv": "42 splits were written 'Train' and read as train",
    "note_open_quote.tsv": "1 quotes were opened and not closed",
    "note_quoted_newline.tsv": "1 cells hold a line break",
    "note_two_quotes.tsv": "2 quotes were opened and not closed",
    "short_rows.tsv": "15 lines are shorter than the header",
    "some_mixedcase.tsv": "4 study groups were written otherwise",
    "spaces_group.tsv": "37 study groups were written otherwise",
    "split_some.tsv": "6 splits were written 'validation' and read as val",
    "split_words.tsv": "42 splits were written 'training' and read as train",
    "trailing_tab_first.tsv": "1 lines end in separators",
    "trailing_tab_later.tsv": "1 lines end in separators",
    "trailing_tab_rows.tsv": "60 lines end in separators",
    "trailing_tab_some.tsv": "30 lines end in separators",
    "utf16.tsv": "read as UTF-16",
}
REFUSED = {
    "dup_differs.tsv": r"dup_differs\.tsv, line 62, column age: .* another age than in line 5",
    "dup_header.tsv": r"dup_header\.tsv, column age: expected one column age, got it as columns 4 and 16",
    "dup_header_exact.tsv": r"column age: expected one column age, got it as columns 4 and 16",
    "empty.tsv": r"empty\.tsv: expected a table of text with a header, got an empty file",
    "nul.tsv": r"nul\.tsv: .* a zero byte in line 4",
    "short_rows_split.tsv": r"line 2: expected 15 cells, as in the header, got a line that breaks off after 5",
}
MEASURED_ALIKE = (
    "m_bom.csv", "m_comma_decimal.csv", "m_comma_decimal_semi.csv", "m_crlf.csv", "m_latin1.csv",
    "m_newline_in_quotes.csv", "m_quoteall.csv", "m_semi.csv", "m_tab.csv", "m_trailing_comma.csv", "m_upper.csv",
    "m_upper_source.csv",
)  # fmt: skip
MEASUREMENTS_REFUSED = {
    "m_censored.csv": r"hba1c between 3 and 18 %, got 34 of 67 that are limits",
    "m_ifcc.csv": r"column value_as_number: .* got 67 of 67 that are none \(the first: '45' in line 2\); HbA1c in",
    "m_short.csv": r"m_short\.csv, line 184: expected 8 cells, as in the header, got a line that breaks off after 2",
}
OTHER_CONTENT = {
    "age_censored.tsv", "age_comma.tsv", "age_comma_planted.tsv", "age_point.tsv", "missing_age.tsv", "no_test.tsv",
    "no_val.tsv", "site_NA.tsv", "train_one_insulin.tsv", "val_no_insulin.tsv", "val_one_class.tsv",
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(reference: Path) -> Path:
    return reference / "reports_tables"


def test_every_fixture_has_its_outcome_here(saved: Path) -> None:
    here = {*SAME, *MENDED, *REFUSED, *MEASURED_ALIKE, *MEASUREMENTS_REFUSED, *OTHER_CONTENT, "ref.tsv", "m_ref.csv"}
    lists = {"pre_csv.csv", "pre_ok.txt", "pre_quoted.txt"}
    assert here | lists | {"README.md"} == {path.name for path in saved.iterdir()}


@pytest.mark.parametrize("name", SAME)
def test_what_cannot_be_seen_changes_nothing(saved: Path, name: str) -> None:
    pd.testing.assert_frame_equal(read_participants(saved / name), read_participants(saved / "ref.tsv"))


@pytest.mark.parametrize(("name", "note"), MENDED.items())
def test_what_was_mended_is_counted(saved: Path, name: str, note: str) -> None:
    heard: list[str] = []
    table = read_participants(saved / name, heard.append)
    plain = read_participants(saved / "ref.tsv")
    if name == "short_rows.tsv":  # the flag of a line that breaks off before it is not known
        assert (table["flagged"] == "").sum() == 15
        table["flagged"] = plain["flagged"]
    pd.testing.assert_frame_equal(table, plain)
    assert note in " ".join(heard)


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_what_has_two_meanings_is_one_error(saved: Path, name: str, message: str) -> None:
    with pytest.raises(CohortError, match=message):
        read_participants(saved / name)


def test_ages_with_a_decimal_comma_are_those_with_a_point(saved: Path) -> None:
    heard: list[str] = []
    comma = read_participants(saved / "age_comma_planted.tsv", heard.append)
    pd.testing.assert_frame_equal(comma, read_participants(saved / "age_point.tsv"))
    assert "60 ages were written with a decimal comma" in heard[0]
    assert read_participants(saved / "age_comma.tsv")["age"].tolist()[0] == 61.5


def test_a_top_code_is_its_limit_and_counted(saved: Path) -> None:
    heard: list[str] = []
    table = read_participants(saved / "age_censored.tsv", heard.append)
    assert (table["age"] == 89).sum() == 11
    assert "11 ages were written as a limit" in heard[0]


def test_a_site_may_be_called_na_and_an_absent_age_is_said(saved: Path) -> None:
    assert (read_participants(saved / "site_NA.tsv")["site"] == "NA").sum() == 20
    heard: list[str] = []
    assert np.isnan(read_participants(saved / "missing_age.tsv", heard.append)["age"]).all()
    assert "the column age is not there" in heard[0]


@pytest.fixture(scope="module")
def measured(saved: Path) -> Iterator[Measurements]:
    yield read_measurements(saved / "m_ref.csv")


@pytest.mark.parametrize("name", MEASURED_ALIKE)
def test_measurements_are_those_of_the_plain_table(saved: Path, measured: Measurements, name: str) -> None:
    found = read_measurements(saved / name)
    pd.testing.assert_frame_equal(found.table, measured.table)
    assert found.counts == measured.counts
    assert found.counts["hba1c"]["participants"] == 58
    assert any("decimal comma" in note for note in found.notes) == ("comma_decimal" in name)


@pytest.mark.parametrize(("name", "message"), MEASUREMENTS_REFUSED.items())
def test_measurements_that_say_nothing_are_one_error(saved: Path, name: str, message: str) -> None:
    with pytest.raises(CohortError, match=message):
        read_measurements(saved / name)


def test_lists_hold_the_same_people_however_they_are_saved(saved: Path) -> None:
    plain = read_pretraining(saved / "pre_ok.txt")
    assert len(plain) == 60
    for name in ("pre_csv.csv", "pre_quoted.txt", "ref.tsv", "comma.csv", "r_writetable.tsv"):
        assert read_pretraining(saved / name) == plain


GROUPS = (
    "healthy",
    "pre_diabetes_lifestyle_controlled",
    "oral_medication_and_or_non_insulin_injectable_medication_controlled",
    "insulin_dependent",
)


def lines(separator: str = "\t", **changed: str) -> list[str]:
    """A table of twelve people; changed: the cells of the fourth one."""
    header = ["participant_id", "clinical_site", "study_group", "age", "recommended_split", "retinal_oct"]
    rows = [
        [f"{1001 + number}", "UW", GROUPS[number % 4], "50", ("train", "val", "test")[number % 3], "TRUE"]
        for number in range(12)
    ]
    rows[3] = [changed.get(name, cell) for name, cell in zip(header, rows[3], strict=True)]
    return [separator.join(cells) for cells in [header, *rows]]


def read(folder: Path, data: bytes) -> tuple[pd.DataFrame, list[str]]:
    notes: list[str] = []
    path = folder / "people.tsv"
    path.write_bytes(data)
    return read_participants(path, notes.append), notes


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ("\n".join(lines()).encode("utf-16-be"), "read as UTF-16-BE"),
        (("sep=;\n" + "\n".join(lines(";"))).encode(), "1 lines above the header were left out"),
        ("\n".join(lines(clinical_site='"UW')).encode(), "1 quotes were opened and not closed"),
        ("\n".join(lines(participant_id="1004,00")).encode(), ""),
        ("\n".join(lines(participant_id="1004.0")).encode(), ""),
        ("\n".join(lines(clinical_site="\u00a0UW\u202f")).encode(), ""),
        ("\t\n".join(lines()).replace("oct\t\n", "oct\n").encode(), "11 lines end in separators"),
        ("\n".join(lines()).replace("oct\n", "oct\t\n").encode(), "12 lines are shorter than the header"),
        ("\n".join(lines()).replace("UW", "UW\u00a0").encode("cp1252"), "read as Windows-1252"),
        ("\n".join([*lines(), "\x1a"]).encode(), ""),
        ("\n\n".join(lines()).encode(), "12 blank lines were left out"),
    ],
)
def test_siblings_give_the_same_table(tmp_path: Path, data: bytes, note: str) -> None:
    plain, _ = read(tmp_path, "\n".join(lines()).encode())
    found, notes = read(tmp_path, data)
    pd.testing.assert_frame_equal(found, plain)
    assert [note in said for said in notes] == [True] * bool(note)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lines(age="1.234,5"), "line 5, column age: expected an age in years, or an empty cell, got '1.234,5'"),
        (lines(study_group="helthy"), r"column study_group: expected the groups .* got 'helthy' \(1\)"),
        (lines(participant_id="\t1004"), "line 5: expected 6 cells, as in the header, got 7; is a tab part of a cell"),
        (
            [*lines()[:4], lines(";")[4], *lines()[5:]],
            "line 5: expected 6 cells, .* got a line that breaks off after 1",
        ),
        ([lines()[0].replace("retinal_oct", " Age"), *lines()[1:]], "column age: .* got it as columns 4 and 6"),
        ([*lines(), "Total\t\t\t600\t\t"], "line 14: expected a participant, got 'Total', a line of totals; delete it"),
        (lines(participant_id="1004;5"), "line 5, .* several cells, cut by another separator"),
    ],
)
def test_siblings_with_two_meanings_are_refused(tmp_path: Path, text: list[str], words: str) -> None:
    with pytest.raises(CohortError, match=words):
        read(tmp_path, "\n".join(text).encode())


@pytest.mark.parametrize(("cell", "years"), [(">90", 90), ("90+", 90), ("<18", 18), ("> 89", 89), ("45,2", 45.2)])
def test_a_limit_or_a_comma_is_read_and_counted(tmp_path: Path, cell: str, years: float) -> None:
    found, (note,) = read(tmp_path, "\n".join(lines(age=cell)).encode())
    assert found["age"].tolist()[3] == years
    assert "1 ages were written" in note


def test_a_line_of_numbers_at_the_end_is_counted(tmp_path: Path) -> None:
    found, (note,) = read(tmp_path, "\n".join([*lines(), "12\t\t\t50\t\t"]).encode())
    assert len(found) == 13
    assert "1 lines have an id and neither group nor split (totals?)" in note
