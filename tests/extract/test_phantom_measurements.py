"""The phantom's clinical table: OMOP-shaped, said to be synthetic, tied to the class and to nothing else."""

import csv
import io
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from command_line import Command

from extract.phantom.measurements import COLUMNS, MARK, MEASUREMENTS, measurements_text
from extract.phantom.participants import Participant, class_list, draw_participants, split_sizes

PUBLIC_TRAIN_COUNTS = {0: 290, 1: 162, 2: 233, 3: 58}


def people(count: int = 1061) -> list[Participant]:
    return draw_participants(count, 0, octa=False, site_follows_class=False)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def values(text: str, source: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows(text):
        if row["measurement_source_value"].startswith(source):
            found[row["person_id"]].append(float(row["value_as_number"]))
    return found


def test_a_cohort_of_1061_has_the_published_class_counts() -> None:
    assert split_sizes(1061) == {"train": 743, "val": 159, "test": 159}
    assert Counter(class_list("train", 743)) == PUBLIC_TRAIN_COUNTS
    drawn = people()
    assert Counter(p.class_index for p in drawn if p.split == "train") == PUBLIC_TRAIN_COUNTS
    for split in ("val", "test"):
        assert sorted(Counter(p.class_index for p in drawn if p.split == split).values()) == [39, 40, 40, 40]


def test_every_line_says_that_it_is_synthetic() -> None:
    lines = rows(measurements_text(people(40), 0))
    assert tuple(lines[0]) == COLUMNS
    assert {line["value_source_value"] for line in lines} == {MARK}
    assert len({line["measurement_id"] for line in lines}) == len(lines)


def test_hba1c_follows_the_class_and_haemoglobin_does_not() -> None:
    drawn = people()
    text = measurements_text(drawn, 0)
    for source, tied in (("import_hba1c", True), ("lbscat_a1c", False)):
        found = values(text, source)
        means = [np.mean([v for p in drawn if p.class_index == c for v in found.get(p.id, [])]) for c in range(4)]
        assert (np.diff(means) > 0.3).all() == tied
    assert 0.02 < 1 - len(values(text, "import_hba1c")) / len(drawn) < 0.09
    assert 0.05 < np.mean([len(many) == 2 for many in values(text, "import_hba1c").values()]) < 0.15
    assert all(len(one) == 1 for one in values(text, "bmi_vsorres").values())


def test_the_option_adds_one_file_and_changes_no_other(tmp_path: Path, command: Command) -> None:
    asked = ("--participants", 2, "--devices", "zeiss_cirrus", "--scale", 0.02, "--workers", 1, "--json")
    plain, more = tmp_path / "plain", tmp_path / "more"
    assert command("oct-phantom", "--out", plain, *asked).code == 0
    done = command("oct-phantom", "--out", more, *asked, "--measurements")
    assert done.code == 0, done.stderr
    before, after = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (plain, more)
    )
    assert set(after) - set(before) == {MEASUREMENTS}
    assert all(after[name] == content for name, content in before.items())
