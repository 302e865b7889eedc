"""A run that cannot be read is counted and named wherever the best of the others is shown."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from simulated_case import write_simulated_case
from simulated_run import build_run
from simulated_study import NOW, simulated_facts, simulated_features

from embeddings_store.errors import RunError, UsageError
from reports.case import choose_run
from reports.options import StudyOptions
from reports.runs import LeftOut, read_runs, say_left_out
from reports.serve import Dashboard
from reports.study import write_study


def cut_record(folder: Path) -> None:
    (folder / "run.json").write_bytes((folder / "run.json").read_bytes()[:100])


def lose_record(folder: Path) -> None:
    (folder / "run.json").unlink()


def lose_predictions(folder: Path) -> None:
    (folder / "predictions.parquet").unlink()


def cut_cohort(folder: Path) -> None:
    (folder / "cohort.parquet").write_bytes((folder / "cohort.parquet").read_bytes()[:100])


def dangle(folder: Path) -> None:
    (folder / "run.json").unlink()
    (folder / "run.json").symlink_to(folder / "nowhere")


def shut(folder: Path) -> None:
    folder.chmod(0)


DAMAGES = (cut_record, lose_record, lose_predictions, cut_cohort, dangle)


def left_out_of(runs: Path) -> tuple[list[str], list[LeftOut]]:
    left_out: list[LeftOut] = []
    return [run.id for run in read_runs(runs, tell=left_out.append)], left_out


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_named_and_the_others_are_read(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    build_run(tmp_path, "whole", model="linear")
    damage(build_run(tmp_path, "broken", model="linear"))
    whole, (left_out,) = left_out_of(tmp_path)
    assert whole == ["whole"]
    assert left_out.folder == "broken"
    assert left_out.reason
    assert str(tmp_path) not in left_out.reason


@pytest.mark.parametrize("copy", ["whole (conflicted copy)", "copy of whole", "Whole"])
def test_a_copy_under_another_name_is_no_second_run(tmp_path: Path, copy: str) -> None:
    shutil.copytree(build_run(tmp_path, "whole", model="linear"), tmp_path / copy)
    assert left_out_of(tmp_path) == (
        ["whole"],
        [LeftOut(copy, "it is a copy of the run whole")],
    )


def test_a_run_whose_folder_was_renamed_is_still_read(tmp_path: Path) -> None:
    build_run(tmp_path, "whole", model="linear").rename(tmp_path / "our best")
    assert left_out_of(tmp_path) == (["whole"], [])


def test_a_folder_that_nobody_may_look_into_is_named(tmp_path: Path) -> None:
    build_run(tmp_path, "whole", model="linear")
    shut(build_run(tmp_path, "foreign", model="linear"))
    listed = os.listdir

    def refuse(folder: Any) -> list[str]:
        if Path(folder).name == "foreign":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    with patch("os.listdir", refuse):  # for root no folder is shut
        assert left_out_of(tmp_path) == (["whole"], [LeftOut("foreign", "Permission denied")])


def test_what_is_no_run_is_not_counted(tmp_path: Path) -> None:
    build_run(tmp_path, "whole", model="linear")
    for name in ("comparisons", "studies", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "README.md").touch()
    assert left_out_of(tmp_path) == (["whole"], [])
    assert say_left_out([]) == []


def test_when_none_can_be_read_it_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        cut_record(build_run(tmp_path, name, model="linear"))
    with pytest.raises(RunError, match=r"2 runs, none can be read: a: "):
        read_runs(tmp_path)


def test_study_says_it_on_page_terminal_and_json(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "whole", model="linear")
    cut_record(build_run(tmp_path / "runs", "broken", model="linear"))
    options = StudyOptions(store="unused", runs=tmp_path / "runs", out=tmp_path / "out")
    study = write_study(options, facts=simulated_facts(), features_of=simulated_features, now=NOW)
    record = study.to_record()
    assert [one["run"] for one in record["runs_left_out"]] == ["broken"]
    assert json.dumps(record)
    counted, named = study.warnings[:2]  # which the command says on the terminal
    assert counted.startswith("1 run of this folder cannot be read")
    assert named.startswith("Left out: broken: ")
    page = study.page.read_text()
    assert counted in page
    assert "Left out: broken: " in page


def test_case_and_dashboard_say_it_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    build_run(runs, "whole", model="linear")
    cut_record(build_run(runs, "broken", model="linear"))
    page = write_simulated_case(runs, tmp_path / "out", split_of_run="val")
    for text in (page, Dashboard(runs, runs, b"sixteen letters.").index()):
        assert "1 run of this folder cannot be read" in text
        assert "Left out: broken: " in text
    assert "Left out: broken: " in capsys.readouterr().err


def test_the_run_that_was_asked_for_cannot_be_read(tmp_path: Path) -> None:
    build_run(tmp_path, "whole", model="linear")
    cut_record(build_run(tmp_path, "broken", model="linear"))
    left_out: list[LeftOut] = []
    runs = read_runs(tmp_path, tell=left_out.append)
    with pytest.raises(UsageError, match=r"--run broken: it cannot be read: .*run\.json"):
        choose_run(runs, "broken", left_out)
