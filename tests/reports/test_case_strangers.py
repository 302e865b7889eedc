"""A case page says nothing of a person who has only the number of one that the run knows."""

from pathlib import Path

import pytest
from simulated_case import write_simulated_case
from simulated_run import build_run

from embeddings_store.errors import UsageError
from embeddings_store.schema import Eye
from reports.anatomy.scan import ScanGeometry
from reports.cases.scans import ScanCase
from reports.cases.view import _caption


@pytest.mark.parametrize("split_of_run", ["val", ""])
def test_group_and_covariates_are_those_of_the_same_volumes(tmp_path: Path, split_of_run: str) -> None:
    build_run(tmp_path / "runs", "one", model="linear")
    text = write_simulated_case(tmp_path / "runs", tmp_path / "out", split_of_run=split_of_run)
    known = split_of_run == "val"
    assert ("Recorded group: <b>" in text) is known
    assert ("Recorded group: absent, none of these scans is one that the run knows" in text) is not known
    assert ("Age and site alone: absent, none of these scans" in text) is not known


def test_somebody_new_has_a_page_and_nobody_has_none(tmp_path: Path) -> None:
    build_run(tmp_path / "runs", "one", model="linear")
    text = write_simulated_case(tmp_path / "runs", tmp_path / "out", split_of_run="", person="9999")
    assert "asked for; new to the run" in text
    assert "Recorded group: absent, this participant is new to the run" in text
    assert "60\u00a0%" in text or "60 %" in text
    with pytest.raises(UsageError, match="--participant nobody: expected somebody of the run"):
        write_simulated_case(tmp_path / "runs", tmp_path / "none", split_of_run="", person="nobody")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("eye", [Eye.LEFT, Eye.UNKNOWN])
def test_of_an_unknown_eye_no_side_is_named(eye: Eye) -> None:
    geometry = ScanGeometry(8, 32, 32, (0.8, 0.01, 0.2), eye, "macula_cube", "")
    said = _caption(ScanCase({}, geometry, None, "", None, "", None))
    assert ("The eye is not known: which side is nasal cannot be said" in said) is (eye is Eye.UNKNOWN)
