import csv
import io

import pandas as pd
import pytest

from embeddings_store.cells import clean, quoted_cell
from embeddings_store.failed_rows import COLUMNS, to_csv
from embeddings_store.plain_text import begins_formula, for_spreadsheets, visible
from embeddings_store.terminal.console import say


@pytest.mark.parametrize(
    "text, expected",
    [("plain é 中\n\tx", "plain é 中\n\tx"), ("a\x1b[31mb", "a\\x1b[31mb"), ("\x00\x07", "\\x00\\x07"),
     ("a\r\nb", "a\\r\nb"),     ("\u202egnp.exe", "\\u202egnp.exe"), ("\udc80", "\\udc80"), ("a\xa0b", "a\xa0b")],
)  # fmt: skip
def test_control_characters_are_spelled(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_what_a_command_says_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    say("participant \x1b[2J\x1b]0;owned\x07")
    assert capsys.readouterr().err == "participant \\x1b[2J\\x1b]0;owned\\x07\n"


@pytest.mark.parametrize(
    "cell, expected",
    [("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("@SUM(1)", "'@SUM(1)"), ("-x", "'-x"),
     (" =1", "' =1"), ("\t=1", "'\t=1"), ("-3.5", "-3.5"), ("+1e5", "+1e5"),
     ("1001", "1001"), ("", ""), ("a=b", "a=b")],
)  # fmt: skip
def test_no_text_cell_begins_a_formula(cell: str, expected: str) -> None:
    made = for_spreadsheets(pd.DataFrame({"who": [cell], "number": [-1.5], "=name": [None]}))
    assert list(made["who"]) == [expected]
    assert list(made["number"]) == [-1.5]
    assert list(made.columns) == ["who", "number", "'=name"]
    assert made["'=name"].isna().all()


@pytest.mark.parametrize(
    "text", ["=1+1", "+a", "-a", "@a", "='a'", "'a'", '"a"', "-3.5", "1001", "", "a=b", '=""', "=", "''"]
)
def test_a_cell_that_is_read_again_says_what_was_written(text: str) -> None:
    written = quoted_cell(text)
    assert not begins_formula(written)
    assert clean(written) == text


def test_what_failed_begins_no_formula() -> None:
    line = dict.fromkeys(COLUMNS, "=cmd|' /C calc'!A0") | {"tries": 3}
    (read,) = csv.DictReader(io.StringIO(to_csv([line])))
    assert set(read.values()) == {"'=cmd|' /C calc'!A0", "3"}
