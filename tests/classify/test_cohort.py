"""The door refuses what is wrong, leaves out what is unusable, and counts both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import Study

from classify.cohort.join import join_cohort
from classify.cohort.participants import read_participants
from classify.cohort.table import COLUMNS, Cohort
from classify.cohort.tasks import STUDY_GROUPS, TASKS
from classify.errors import CohortError, LeakError
from classify.features.table import unit_weights
from embeddings_store.schema import Note


def join(study: Study, folder: Path, task: str = "four-class") -> Cohort:
    participants = read_participants(study.write(folder))
    return join_cohort(study.stored.index, study.stored.pooled, participants, TASKS[task])


def step(cohort: Cohort, name: str) -> dict[str, Any]:
    return next(line for line in cohort.flow if line["step"] == name)


def test_every_volume_gets_the_label_of_its_participant(study: Study, tmp_path: Path) -> None:
    cohort = join(study, tmp_path)
    group = study.people.set_index("participant_id")["study_group"]
    assert list(cohort.table.columns) == list(COLUMNS)
    assert len(cohort.table) == len(study.stored.index)
    expected = [STUDY_GROUPS.index(group[person]) for person in cohort.table["participant"]]
    assert cohort.table["label"].tolist() == expected
    volumes = study.stored.index["volume"].to_numpy()[cohort.position]
    assert (volumes == cohort.table["volume"].to_numpy()).all()


def test_the_order_of_rows_and_of_participants_does_not_matter(study: Study, tmp_path: Path) -> None:
    cohort = join(study, tmp_path)
    order = np.random.default_rng(1).permutation(len(study.stored.index))
    stored = replace(
        study.stored, index=study.stored.index.iloc[order].reset_index(drop=True), pooled=study.stored.pooled[order]
    )
    shuffled = join(Study(study.people.sample(frac=1, random_state=1), stored), tmp_path)
    pd.testing.assert_frame_equal(shuffled.table, cohort.table)
    assert shuffled.sha256 == cohort.sha256
    assert (stored.pooled[shuffled.position] == study.stored.pooled[cohort.position]).all()


def test_a_changed_label_changes_the_hash(study: Study, tmp_path: Path) -> None:
    before = join(study, tmp_path).sha256
    study.people.loc[0, "study_group"] = STUDY_GROUPS[3]
    assert join(study, tmp_path).sha256 != before


def test_the_flow_adds_up_from_store_to_splits(study: Study, tmp_path: Path) -> None:
    study.people.loc[0, "study_group"] = "gestational"
    study.people.loc[1, "recommended_split"] = ""
    study.people = study.people.drop(index=2)
    cohort = join(study, tmp_path)
    excluded = sum(line["volumes"] for line in cohort.flow if line["kind"] == "excluded")
    assert step(cohort, "store")["volumes"] - excluded == step(cohort, "analysed")["volumes"] == len(cohort.table)
    assert sum(step(cohort, split)["volumes"] for split in ("train", "val", "test")) == len(cohort.table)
    assert "'gestational'" in step(cohort, "no label")["reason"]
    for name in ("no label", "no split", "no participant"):
        assert (step(cohort, name)["volumes"], step(cohort, name)["participants"]) == (4, 1)


def test_constant_and_unfinite_volumes_are_left_out(study: Study, tmp_path: Path) -> None:
    study.stored.index.loc[0, "notes"] = int(Note.CONSTANT | Note.SYNTHETIC)
    study.stored.pooled[1, 0, 0, 0] = np.nan
    cohort = join(study, tmp_path)
    assert step(cohort, "constant")["volumes"] == step(cohort, "not finite")["volumes"] == 1
    assert not set(cohort.position) & {0, 1}


def test_a_scan_stored_twice_counts_once(study: Study, tmp_path: Path) -> None:
    study.stored.pooled[1] = study.stored.pooled[0]
    cohort = join(study, tmp_path)
    assert step(cohort, "copy")["volumes"] == 1
    assert len(set(cohort.position) & {0, 1}) == 1


def test_a_scan_under_two_participants_is_a_leak(study: Study, tmp_path: Path) -> None:
    study.stored.pooled[-1] = study.stored.pooled[0]
    with pytest.raises(LeakError, match=study.people["participant_id"].iloc[-1]):
        join(study, tmp_path)


def test_flags_are_compared_with_what_is_there(study: Study, tmp_path: Path) -> None:
    study.people.loc[0, "retinal_oct"] = "FALSE"
    extra = study.people.iloc[[1]].assign(participant_id="7999")
    study.people = pd.concat([study.people, extra])
    cohort = join(study, tmp_path)
    assert step(cohort, "flag without volumes")["participants"] == 1
    assert step(cohort, "volumes without flag")["volumes"] == 4


def test_missing_ages_stay_and_are_counted(study: Study, tmp_path: Path) -> None:
    study.people.loc[0, "age"] = ""
    cohort = join(study, tmp_path)
    assert step(cohort, "age missing")["participants"] == 1
    assert len(cohort.table) == len(study.stored.index)


def test_a_phantom_says_so(study: Study, tmp_path: Path) -> None:
    assert join(study, tmp_path).phantom
    study.stored.index["notes"] = 0
    assert not join(study, tmp_path).phantom


@pytest.mark.parametrize("task", list(TASKS))
def test_binary_tasks_count_everybody(study: Study, tmp_path: Path, task: str) -> None:
    sizes = join(study, tmp_path, task).sizes()
    assert sum(sizes["train"]["per_class"].values()) == sizes["train"]["participants"] == 32
    assert list(sizes["train"]["per_class"]) == list(TASKS[task].classes)


def test_a_store_without_rows_is_one_message(study: Study, tmp_path: Path) -> None:
    study.stored = replace(study.stored, index=study.stored.index.iloc[:0], pooled=study.stored.pooled[:0])
    with pytest.raises(CohortError, match="got none"):
        join(study, tmp_path)


def test_no_usable_label_is_one_message(study: Study, tmp_path: Path) -> None:
    study.people["study_group"] = ""
    with pytest.raises(CohortError, match="no label: 256"):
        join(study, tmp_path)


def test_one_class_in_train_is_one_message(study: Study, tmp_path: Path) -> None:
    study.people["study_group"] = STUDY_GROUPS[0]
    with pytest.raises(CohortError, match="none for rest"):
        join(study, tmp_path, "healthy-vs-rest")


def test_an_empty_val_is_one_message(study: Study, tmp_path: Path) -> None:
    study.people["recommended_split"] = "train"
    with pytest.raises(CohortError, match="the val split is empty"):
        join(study, tmp_path)


def test_a_volume_in_two_rows_is_one_message(study: Study, tmp_path: Path) -> None:
    study.stored.index.loc[1, "volume"] = study.stored.index.loc[0, "volume"]
    with pytest.raises(CohortError, match="more than one row"):
        join(study, tmp_path)


def test_the_reported_class_weights_are_those_of_a_participant_in_fitting(study: Study, tmp_path: Path) -> None:
    study.people.loc[study.people["study_group"] == STUDY_GROUPS[0], "study_group"] = STUDY_GROUPS[1]
    study.people.loc[[0, 4], "study_group"] = STUDY_GROUPS[0]
    cohort = join(study, tmp_path)
    train = cohort.table[cohort.table["split"] == "train"]
    label, person = train["label"].to_numpy(np.int64), train["participant"].to_numpy(str)
    for balanced in (True, False):
        weigh = pd.Series(unit_weights(label, person, balanced=balanced)).groupby(person).sum()
        said = cohort.class_weights(balanced=balanced)
        for number, name in enumerate(STUDY_GROUPS):
            np.testing.assert_allclose(weigh[np.unique(person[label == number])], said[name])
    assert cohort.class_weights(balanced=True)[STUDY_GROUPS[0]] == 4.0
