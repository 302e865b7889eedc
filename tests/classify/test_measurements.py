"""HbA1c and BMI are read from an OMOP table, haemoglobin is not, and what is read is kept for that very file only."""

import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from platformdirs import user_cache_path

from classify.cohort import measurement_cache
from classify.cohort.measurement_cache import FILE, cached_measurements
from classify.cohort.measurements import Measurements, read_measurements
from classify.errors import CohortError

HEADER = "measurement_id,person_id,measurement_concept_id,value_as_number,measurement_source_value"
ROWS = (
    '1,1001,0,6.1,"import_hba1c, HbA1c (%)"',
    '2,1001,0,14.2,"lbscat_a1c, Haemoglobin"',
    '3,1001,0,31.5,"bmi_vsorres, BMI"',
    '4,4002,0,7.0,"import_hba1c, HbA1c (%)"',
    '5,4002,0,8.0,"import_hba1c, HbA1c (%)"',
    '6,4002,0,9.9,"import_hba1c, HbA1c (%)"',
    '7,7003,0,48,"import_hba1c, HbA1c (mmol/mol)"',
    '8,7003,0,,"bmi_vsorres, BMI"',
    "9,7004,0,5.4,import_hba1c",
)


def write(folder: Path, *rows: str, header: str = HEADER, start: str = "") -> Path:
    path = folder / "measurement.csv"
    path.write_text(start + "\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def value(found: Measurements, person: str, name: str) -> float:
    return float(found.table.set_index("participant").loc[person, name])


@pytest.mark.parametrize("start", ["", "﻿"])
def test_hba1c_and_bmi_are_read_and_haemoglobin_is_not(tmp_path: Path, start: str) -> None:
    found = read_measurements(write(tmp_path, *ROWS, start=start))
    assert value(found, "1001", "hba1c") == 6.1
    assert value(found, "1001", "bmi") == 31.5
    assert value(found, "7004", "hba1c") == 5.4
    assert 14.2 not in found.table.to_numpy()


def test_of_several_values_the_median_counts_and_it_is_said(tmp_path: Path) -> None:
    found = read_measurements(write(tmp_path, *ROWS))
    assert value(found, "4002", "hba1c") == 8.0
    assert found.counts["hba1c"]["several"] == 1
    assert "median" in found.to_record()["of_several_values"]


def test_mmol_per_mol_is_converted_where_the_line_says_so_and_missing_where_it_does_not(tmp_path: Path) -> None:
    found = read_measurements(write(tmp_path, *ROWS, "10,7005,0,48,import_hba1c"))
    assert value(found, "7003", "hba1c") == 6.54  # 48 mmol/mol, the table of the NGSP
    assert "7005" not in found.table["participant"].tolist()
    assert found.counts["hba1c"] == {"rows": 7, "no_number": 0, "out_of_range": 1, "participants": 4, "several": 1}
    assert any("1 values of hba1c were converted from mmol/mol" in note for note in found.notes)
    assert found.counts["bmi"] == {"rows": 2, "no_number": 1, "out_of_range": 0, "participants": 1, "several": 0}


def test_a_record_holds_no_value_of_anybody(tmp_path: Path) -> None:
    record = str(read_measurements(write(tmp_path, *ROWS)).to_record())
    assert not any(told in record for told in ("1001", "4002", "31.5"))


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS[1:2], HEADER, "found none"),
        ((), HEADER, "found none"),
        (("1,2",), "person_id,value", "expected a column 'measurement_source_value', got person_id, value"),
        (("1\t2",), HEADER.replace(",", "\t"), "line 2: expected 5 cells"),
        (("1,2",), HEADER, "line 2: expected 5 cells"),
        (('1,1001,0,48,"import_hba1c (%)"',), HEADER, "hba1c between 3 and 18 %, got 1 of 1 .*mmol/mol"),
        (("1,1001,0,high,import_hba1c",), HEADER, "'high' in line 2"),
        (("1,1001,0,<5,import_hba1c",), HEADER, "1 of 1 that are limits"),
    ],
)
def test_a_wrong_table_is_one_message(tmp_path: Path, rows: tuple[str, ...], header: str, message: str) -> None:
    with pytest.raises(CohortError, match=message):
        read_measurements(write(tmp_path, *rows, header=header))


def test_an_empty_and_a_missing_file_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "measurement.csv").write_text("")
    with pytest.raises(CohortError, match="got an empty file"):
        read_measurements(tmp_path / "measurement.csv")
    for read in (read_measurements, cached_measurements):
        with pytest.raises(CohortError, match="found no file"):
            read(tmp_path / "nothing.csv")


def test_the_second_reading_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, *ROWS)
    first, said = cached_measurements(path)
    assert said == f"read now, kept in {user_cache_path('octprobe', appauthor=False) / FILE}"
    monkeypatch.setattr(measurement_cache, "read_measurements", None)
    again, said = cached_measurements(path)
    assert said == f"read earlier, kept in {user_cache_path('octprobe', appauthor=False) / FILE}"
    pd.testing.assert_frame_equal(again.table, first.table, check_names=False)
    assert again.counts == first.counts
    assert (user_cache_path("octprobe", appauthor=False) / FILE).stat().st_mode & 0o077 == 0


def test_another_content_is_read_anew(tmp_path: Path) -> None:
    cached_measurements(write(tmp_path, *ROWS))
    changed, said = cached_measurements(write(tmp_path, *ROWS[:-1], ROWS[-1].replace("5.4", "5.9")))
    assert said.startswith("read now")
    assert value(changed, "7004", "hba1c") == 5.9


@pytest.mark.parametrize("damage", ["no database", "no table", "no numbers"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path, *ROWS)
    place = user_cache_path("octprobe", appauthor=False) / FILE
    expected, _ = cached_measurements(path)
    if damage == "no database":
        place.write_bytes(b"x" * 5000)
    else:
        change = "DROP TABLE measurements" if damage == "no table" else "UPDATE measurements SET people = '{}'"
        with sqlite3.connect(place) as connection:
            connection.execute(change)
        connection.close()
    found, said = cached_measurements(path)
    assert said.startswith("read now, kept")
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert cached_measurements(path)[1].startswith("read earlier")


def test_a_home_that_cannot_be_written_costs_only_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found, said = cached_measurements(write(tmp_path, *ROWS))
    assert said == "read now, and could not be kept"
    assert np.isfinite(value(found, "1001", "hba1c"))
