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
