"""What a plan may say, and one clear message for what it may not, before anything is opened."""

from pathlib import Path

import pytest

from embeddings_store.errors import UsageError
from reports.benchmark.plan import read_plan

PLAN = """
datasets:
  here: {bucket: here, participants: here/participants.tsv, tasks: [healthy-vs-rest]}
  there: {bucket: s3://there/data, labels: labels.csv, target: sick, cross_validate: 5}
encoders:
  volumes: {family: "random:tiny", image_size: [8, 32, 32]}
  slices: {family: retfound, checkpoint: weights.pth, slices: [centre, 16, all]}
heads: [linear, lgbm]
reference: slices@16
replicates: 300
same: {sick: [here/healthy-vs-rest, there/sick]}
"""


def plan(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in PLAN
    path = folder / "study.yaml"
    path.write_text(PLAN.replace(old, new) if old else PLAN)
    return path


def test_a_plan_names_datasets_variants_and_tasks(tmp_path: Path) -> None:
    found = read_plan(plan(tmp_path))
    assert [one.name for one in found.variants] == ["volumes", "slices@centre", "slices@16", "slices@all"]
    assert [dict(one.tasks) for one in found.datasets] == [{"healthy-vs-rest": "healthy-vs-rest"}, {"sick": None}]
    assert found.datasets[0].scans["bucket"] == str(tmp_path / "here")
    assert found.datasets[1].scans["bucket"] == "s3://there/data"
    assert found.variants[1].checkpoint == tmp_path / "weights.pth"
    assert found.same == {"sick": ("here/healthy-vs-rest", "there/sick")}
    assert (found.name, found.judge, found.fitted) == ("study", "val", {"replicates": 300})


def test_a_dataset_may_ask_several_tasks_and_name_several_runs(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    more = "[healthy-vs-rest, four-class, insulin-vs-rest], runs: [one, two]"
    found = read_plan(plan(tmp_path, "[healthy-vs-rest]}", f"{more}}}")).datasets[0]
    assert list(found.tasks) == ["healthy-vs-rest", "four-class", "insulin-vs-rest"]
    assert found.runs == (str(tmp_path / "one"), str(tmp_path / "two"))


def test_lists_are_read_as_they_are_typed(tmp_path: Path) -> None:
    found = read_plan(
        plan(tmp_path, "bucket: here,", 'bucket: here, crop: [0, 0, 4, 4], mask: ["0,1,0,9", "5,9,0,9"],')
    )
    assert found.datasets[0].scans["crop"] == "0,0,4,4"
    assert found.datasets[0].scans["mask"] == ["0,1,0,9", "5,9,0,9"]
    assert found.variants[0].reading["image_size"] == "8,32,32"


def test_the_digest_is_of_what_is_said(tmp_path: Path) -> None:
    first = read_plan(plan(tmp_path)).digest
    assert read_plan(plan(tmp_path, "heads:", "# a comment\nheads:")).digest == first
    assert read_plan(plan(tmp_path, "300", "301")).digest != first


def test_a_dataset_by_name_is_its_own_layout_and_brings_its_tasks(tmp_path: Path) -> None:
    path = plan(tmp_path, "  here: {bucket: here, participants: here/participants.tsv, tasks: [healthy-vs-rest]}",
                "  a2a: {bucket: here, tasks: [a2a/amd]}")  # fmt: skip
    path.write_text(path.read_text().replace("here/healthy-vs-rest, ", "a2a/amd, "))
    found = read_plan(path).datasets[0]
    assert (found.scans["layout"], dict(found.tasks)) == ("a2a", {"amd": "a2a/amd"})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("heads: [linear, lgbm]", "heads: [liner]", "nearest is linear"),
        ("heads: [linear, lgbm]", "head: [linear]", "nearest is heads"),
        ("heads: [linear, lgbm]", "heads: []", "heads: expected at least one"),
        ("heads: [linear, lgbm]", "heads: [linear, linear]", "expected different names"),
        ("reference: slices@16", "reference: slices", "nearest is slices@"),
        ("family: retfound", "family: retfund", "nearest is retfound"),
        ("  slices: {family", "  Fine-Tuned: {family", "give the encoder another name"),
        ("checkpoint: weights", "chekpoint: weights", "nearest is checkpoint"),
        ("bucket: here,", "buckets: here,", "nearest is bucket"),
        ("bucket: here, ", "", "here: bucket: expected a folder"),
        ("bucket: here,", "bucket: here, layout: octdd,", "did you mean octdl"),
        ("[healthy-vs-rest]", "[healthy-vs-all]", "healthy-vs-all"),
        ("target: sick, ", "", "expected names or .yaml files"),
        ("  there:", "  HERE:", "differ only in upper and lower case"),
        ("  there:", "  here:", "stands twice"),
        ("  there:", "  th/ere:", "expected a name of at most 40"),
        ("there/sick]", "there/sik]", "nearest is there/sick"),
        ("there/sick]", "here/healthy-vs-rest]", "expected different names"),
        ("[here/healthy-vs-rest, there/sick]", "[there/sick]", "two or more datasets"),
        ("bucket: here,", "bucket: here, runs: [nowhere],", "expected the folder of a finished run"),
        ("[centre, 16, all]", "[center]", "expected centre, all or a number"),
        ("replicates: 300", "replicates: 300\njudge: tests", "expected val or test"),
        ("family: retfound, checkpoint: weights.pth, ", "", "a family, a checkpoint"),
        ("cross_validate: 5", "cross_validate: 5, make_splits: 70/15/15", "expected one of them"),
        ("tasks: [healthy-vs-rest]", "tasks: [healthy-vs-rest], official_splits: true", "not with participants"),
    ],
)  # fmt: skip
def test_what_a_plan_may_not_say_is_one_message(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"plan study.yaml") as raised:
        read_plan(plan(tmp_path, old, new))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
