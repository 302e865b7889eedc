"""A case page says nothing of a person who has only the number of one that the run knows."""

from pathlib import Path

import pytest
from simulated_case import write_simulated_case
from simulated_run import build_run


@pytest.mark.parametrize("split_of_run", ["val", ""])
def test_group_and_covariates_are_those_of_the_same_volumes(tmp_path: Path, split_of_run: str) -> None:
    build_run(tmp_path / "runs", "one", model="linear")
    text = write_simulated_case(tmp_path / "runs", tmp_path / "out", split_of_run=split_of_run)
    known = split_of_run == "val"
    assert ("Recorded group: <b>" in text) is known
    assert ("Recorded group: absent, none of these scans is one that the run knows" in text) is not known
    assert ("Age and site alone: absent, none of these scans" in text) is not known
