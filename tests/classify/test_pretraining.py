"""Participants of pretraining are found in every split, flagged, and the result without them stands beside."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from classify_study import Study, make_study
from test_evaluate import probed

from classify.cohort.labels import LabelSource
from classify.cohort.pretraining import describe_overlap, flag_pretraining, read_pretraining
from classify.cohort.questions import Task
from classify.cohort.tables import read_tables
from classify.cohort.tasks import find_question
from classify.errors import CohortError
from classify.heads.contract import softmax
from classify.judging.bootstrap import draw_replicates, measure
from classify.judging.overlap import measure_without
from classify.run.predictions import Predictions, rows_of
from classify.run.summary import pretraining_lines
from embeddings_store.schema import volume_id

TASK = Task("mine", ("a", "b"), {}, "binary")


@pytest.mark.parametrize(
    "text",
    [
        "1001\n4002\n",
        "﻿1001\r\n\r\n 4002 \r\n",
        "participant_id\n1001\n4002\n",
        "person_id\tsite\n1001\tUW\n4002\tUCSD\n",
        "site\tparticipant_id\nUW\t1001\nUCSD\t4002\n",
    ],
)
def test_ids_are_read_from_a_list_or_a_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "seen.txt"
    path.write_text(text, encoding="utf-8")
    assert read_pretraining(path) == {"1001", "4002"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("participant_id\n", "got none"),
        ("a\tb\n1\t2", "expected a participant's id, got several cells"),
    ],
)
def test_a_wrong_list_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "seen.txt"
    path.write_text(text)
    with pytest.raises(CohortError, match=message):
        read_pretraining(path)
    with pytest.raises(CohortError, match="found no file"):
        read_pretraining(tmp_path / "nothing.txt")


def test_each_split_counts_who_was_seen(tmp_path: Path) -> None:
    study: Study = make_study(64)
    split = study.people.set_index("participant_id")["recommended_split"]
    seen = frozenset([*split.index[split == "val"][:3], *split.index[split == "train"][:2], "1999"])
    cohort = read_tables(LabelSource(study.write(tmp_path)), find_question("four-class"), tell=print).join(study.stored)
    assert describe_overlap(cohort, seen)["participants"] == {"train": 2, "val": 3, "test": 0}
    notes = {line["step"]: line for line in flag_pretraining(cohort, seen).flow if line["kind"] == "note"}
    assert notes["seen in pretraining: val"]["participants"] == 3
    assert notes["seen in pretraining: val"]["volumes"] == 12
    assert "seen in pretraining: test" not in notes
    steps = [line["step"] for line in flag_pretraining(cohort, seen).flow]
    assert steps.index("seen in pretraining: val") < steps.index("analysed")


def people(count: int, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    label = (np.arange(count) % 2).astype(np.int64)
    logits = rng.normal(size=(count, 2)) + np.eye(2)[label]
    names = np.array([f"{1000 + number}" for number in range(count)])
    return Predictions("m", "participant", "val", names, names, label, logits, softmax(logits))


def test_the_result_without_them_is_that_of_the_others_alone() -> None:
    judged, beside = people(60), people(60, 1)
    seen = frozenset(judged.participant[:20].tolist())
    said = measure_without(judged, {"age+site": beside}, seen, TASK, replicates=50, seed=0)["val"]
    rest = rows_of(judged, np.arange(20, 60))
    expected, _ = measure(rest, draw_replicates(rest.participant, replicates=50, seed=0), ("a", "b"))
    assert said["participants"] == 40
    assert said["metrics"] == expected
    assert set(said["difference_to_age_site"]) == {"balanced_accuracy", "macro_auroc"}


def test_nobody_everybody_and_nothing_said_have_their_own_answer() -> None:
    judged = people(20)
    others = {"age+site": people(20, 1)}
    everybody = frozenset(judged.participant.tolist())
    assert measure_without(judged, others, None, TASK, replicates=10, seed=0) == {}
    said = measure_without(judged, others, frozenset(["9"]), TASK, replicates=10, seed=0)["val"]
    assert said.absent.startswith("nobody of val")
    said = measure_without(judged, others, everybody, TASK, replicates=10, seed=0)["val"]
    assert said.absent.startswith("everybody of val")


@pytest.mark.parametrize("share", [0, 4, 5, 10])
def test_a_list_or_table_of_other_people_is_refused(tmp_path: Path, share: int) -> None:
    study = make_study(64)
    ids = [*study.people["participant_id"][:share], *(f"9{number:03d}" for number in range(10 - share))]
    (tmp_path / "seen.txt").write_text("\n".join(ids))
    rows = "\n".join(f"{one},import_hba1c,6.1" for one in ids)
    measured = tmp_path / "measurement.csv"
    measured.write_text(f"person_id,measurement_source_value,value_as_number\n{rows}\n")
    people = study.write(tmp_path)
    for more in ((None, tmp_path / "seen.txt"), (measured, None)):
        if share >= 5:
            assert read_tables(LabelSource(people), find_question("four-class"), *more, tell=print).labels is not None
            continue
        with pytest.raises(CohortError, match=f"10 ids of which {share} are among the 64 participants"):
            read_tables(LabelSource(people), find_question("four-class"), *more, tell=print)


def test_a_number_whose_volumes_are_others_now_is_doubtful(tmp_path: Path) -> None:
    study, listed = make_study(), tmp_path / "seen.txt"
    listed.write_text("\n".join(study.people["participant_id"]))
    first = probed(study, tmp_path, "dummy", pretrain_participants=listed).record.cohort.pretraining
    assert first["matched"] == "by number"
    assert "with_other_volumes" not in first
    index = study.stored.index.assign(volume=[volume_id("new/" + key) for key in study.stored.index["key"]])
    anew = Study(study.people, replace(study.stored, index=index, pooled=study.stored.pooled + np.float32(0.5)))
    found = probed(anew, tmp_path, "dummy", pretrain_participants=listed).record.cohort.pretraining
    assert found["with_other_volumes"] == len(study.people)
    assert any("have other volumes here" in line for line in pretraining_lines(found, "val"))
