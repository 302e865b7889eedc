"""Tasks as data: a small YAML becomes a task or one clear message, and a run carries its task with it."""

from pathlib import Path

import pytest
from classify_study import Study, make_study
from hypothesis import given
from hypothesis import strategies as st

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.tasks import (
    HEALTHY,
    INSULIN,
    LIFESTYLE,
    ORAL,
    STUDY_GROUPS,
    TASKS,
    find_task,
    parse_task,
    task_of_record,
)
from classify.run.record import Asked, CohortFacts, Judgement, ModelFacts, Provenance, RunRecord
from embeddings_store.errors import UsageError

GOOD = f"""
name: early-vs-late
classes: [early, late]
groups:
  {LIFESTYLE}: early
  {INSULIN}: late
  {ORAL}: late
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_is_a_task_and_its_order_of_classes_counts(tmp_path: Path) -> None:
    task = find_task(write(tmp_path, GOOD))
    assert (task.name, task.classes) == ("early-vs-late", ("early", "late"))
    assert task.class_of == {LIFESTYLE: 0, ORAL: 1, INSULIN: 1}
    swapped = find_task(write(tmp_path, GOOD.replace("[early, late]", "[late, early]")))
    assert swapped.class_of == {LIFESTYLE: 1, ORAL: 0, INSULIN: 0}


def test_participants_of_a_group_left_out_are_excluded_and_counted(tmp_path: Path) -> None:
    study: Study = make_study(64)
    people = read_participants(study.write(tmp_path))
    cohort = join_cohort(study.stored.index, study.stored.pooled, people, find_task(write(tmp_path, GOOD)))
    step = next(line for line in cohort.flow if line["step"] == "not asked")
    assert (step["participants"], step["volumes"], step["kind"]) == (16, 64, "excluded")
    assert HEALTHY in step["reason"]
    assert len(cohort.table) == 192
    assert cohort.sizes()["train"]["per_class"] == {"early": 8, "late": 16}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "covariate: [hba1c]\n", "mine.yaml: unknown key 'covariate'"),
        (GOOD.replace("classes:", "class:"), "unknown key 'class'"),
        (GOOD.replace("name: early-vs-late\n", ""), "expected the key 'name'"),
        (GOOD.replace("early-vs-late", "Early vs late"), "name: expected up to 40 small letters"),
        (GOOD.replace("early-vs-late", "../x"), "name: expected up to 40 small letters"),
        (GOOD.replace("early-vs-late", "four-class"), "four-class is built in"),
        (GOOD.replace(INSULIN, "gestational"), "unknown study group 'gestational'"),
        (GOOD.replace(": late", ": latest"), "expected one of early, late, got 'latest'"),
        (GOOD.replace("[early, late]", "[early, late, later]"), "no study group makes the class 'later'"),
        ("name: x\nclasses: [one]\ngroups: {healthy: one}\n", "at least two different names, got one"),
        ("name: x\nclasses: [one, one]\ngroups: {healthy: one}\n", "at least two different names"),
        ("name: x\nclasses: []\ngroups: {healthy: one}\n", "at least two different names, got none"),
        ("name: x\nclasses: [a, b]\ngroups: {}\n", "the task maps nothing"),
        ("name: x\nclasses: [a, b]\ngroups:\n", "the task maps nothing"),
        ("name: x\nclasses: [no, yes]\ngroups: {healthy: no}\n", "numbers in quotes"),
        (GOOD + f"  {ORAL}: early\n", f"the key '{ORAL}' stands twice"),
        ("- a\n- b\n", "expected keys and values, got list"),
        ("a: [\n", "expected YAML, which cannot be read"),
    ],
)
def test_each_mistake_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_task(write(tmp_path, text))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_and_an_unknown_name_are_one_message(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.yaml: expected a YAML file"):
        find_task(str(tmp_path / "nothing.yaml"))
    with pytest.raises(UsageError, match=r"expected one of four-class, .* or a file"):
        find_task("five-class")


@pytest.mark.parametrize("number", ["age", "hba1c", "HbA1c"])
def test_a_number_is_no_task_and_the_message_says_where_it_is_asked(number: str) -> None:
    with pytest.raises(UsageError, match="probes_of_nuisance"):
        find_task(number)


def record_of(task: str, definition: dict[str, object] | None = None) -> RunRecord:
    return RunRecord(
        id="x",
        made=Provenance(),
        asked=Asked(task=task, classes=["a"], space="s", phantom=True, task_definition=definition or {}),
        cohort=CohortFacts(cohort_sha256="", splits={}),
        fitted=ModelFacts(model="linear"),
        judged=Judgement(metrics={}),
    )


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=4, max_size=4))
def test_a_record_gives_its_task_back(chosen: list[str | None]) -> None:
    groups = {group: one for group, one in zip(STUDY_GROUPS, chosen, strict=True) if one}
    classes = sorted(set(groups.values()))
    raw = {"name": "mine", "classes": classes, "groups": groups}
    if len(classes) < 2:
        with pytest.raises(UsageError):
            parse_task(raw, "here")
        return
    task = parse_task(raw, "here")
    assert task_of_record(record_of("mine", task.to_dict())) == task


def test_an_older_record_only_names_its_task() -> None:
    for name, task in TASKS.items():
        assert task_of_record(record_of(name)) == task
        assert parse_task(task.to_dict(), "here") == task
