"""participants.tsv in both versions, and what is wrong with a bad one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classify.cohort.participants import read_participants
from classify.errors import CohortError, LeakError

HEADER = "participant_id\tclinical_site\tstudy_group\tage\trecommended_split\tretinal_oct"
LINE = "1001\tUW\thealthy\t61\ttrain\tTRUE"


def write(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "participants.tsv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("id_name", ["participant_id", "person_id"])
def test_both_versions_with_and_without_a_bom_read_alike(tmp_path: Path, id_name: str, encoding: str) -> None:
    path = write(tmp_path, HEADER.replace("participant_id", id_name), LINE, encoding=encoding)
    table = read_participants(path)
    assert table.iloc[0].to_dict() == {
        "participant": "1001", "site": "UW", "group": "healthy", "age": 61.0, "split": "train", "flagged": "TRUE",
    }  # fmt: skip


@pytest.mark.parametrize("age", ["", "unknown", "-5", "999"])
def test_an_unusable_age_is_missing(tmp_path: Path, age: str) -> None:
    table = read_participants(write(tmp_path, HEADER, LINE.replace("61", age)))
    assert np.isnan(table["age"][0])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER.replace("study_group", "group"), LINE)
    with pytest.raises(CohortError, match="missing: study_group"):
        read_participants(path)


def test_a_missing_id_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER.replace("participant_id", "id"), LINE)
    with pytest.raises(CohortError, match="participant_id or person_id"):
        read_participants(path)


def test_a_participant_in_two_splits_is_a_leak_that_names_it(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, LINE, LINE.replace("train", "val"))
    with pytest.raises(LeakError, match="1001"):
        read_participants(path)


def test_a_participant_on_two_lines_that_differ_is_refused_without_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, LINE, LINE.replace("61", "62"))
    with pytest.raises(CohortError, match=r"line 3, column age: .*another age than in line 2") as caught:
        read_participants(path)
    assert "1001" not in str(caught.value)


def test_a_line_that_says_the_same_again_is_left_out_and_counted(tmp_path: Path) -> None:
    heard: list[str] = []
    assert len(read_participants(write(tmp_path, HEADER, LINE, LINE), heard.append)) == 1
    assert "1 lines repeat a participant" in heard[0]


@pytest.mark.parametrize("lines", [[], [HEADER]])
def test_an_empty_table_is_refused(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(CohortError, match="header"):
        read_participants(write(tmp_path, *lines))


def test_no_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="found no file"):
        read_participants(tmp_path / "nothing.tsv")


def test_lines_come_back_sorted(tmp_path: Path) -> None:
    table = read_participants(write(tmp_path, HEADER, LINE.replace("1001", "7001"), LINE))
    pd.testing.assert_series_equal(table["participant"], pd.Series(["1001", "7001"], name="participant", dtype="str"))
