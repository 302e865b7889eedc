"""The lock counts people: whatever the task, table, folder or ledger, and whoever looks at the same moment."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, fill_store, make_study
from test_evaluate import NOW, ledger, look, probed

from classify.cohort.identity import digest_person
from classify.compare import compare
from classify.errors import CohortError, LeakError
from classify.ledger import LEDGER
from classify.predict import predict
from classify.reference.flags import LOCKED, OTHER_PERSON
from classify.run import RECORD, load_run
from classify.run_options import PredictOptions
from classify.study_options import CompareOptions
from embeddings_store.schema import volume_id
from embeddings_store.snapshot import write_snapshot

HALF = "healthy-vs-rest"


def renamed(study: Study, where: str) -> Study:
    """The same numbers with other scans, as a second folder of own scans has them."""
    other = make_study(len(study.people), effect=1.0, seed=5)
    index = other.stored.index.assign(
        participant=study.stored.index["participant"],
        site=study.stored.index["site"],
        volume=[volume_id(where + key) for key in study.stored.index["key"]],
    )
    return Study(study.people, replace(other.stored, index=index))


def test_a_look_through_another_task_a_changed_age_or_another_cohort_counts(study: Study, tmp_path: Path) -> None:
    assert look(study, tmp_path, probed(study, tmp_path, "dummy").folder).looks == 1
    assert look(study, tmp_path, probed(study, tmp_path, "dummy", task=HALF).folder).looks == 2
    study.people.loc[0, "age"] = "41"
    assert look(study, tmp_path, probed(study, tmp_path, "dummy").folder).looks == 3
    fewer = Study(study.people, replace(study.stored, index=study.stored.index[:-1], pooled=study.stored.pooled[:-1]))
    assert look(fewer, tmp_path, probed(fewer, tmp_path, "dummy").folder).looks == 4


def test_a_deleted_ledger_and_a_copied_folder_count(study: Study, tmp_path: Path) -> None:
    first, second = probed(study, tmp_path, "dummy"), probed(study, tmp_path, "dummy")
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    assert look(study, tmp_path, first.folder).looks == 1
    assert look(study, tmp_path, tmp_path / "copy" / first.folder.name).looks == 2
    (tmp_path / "runs" / LEDGER).unlink()
    assert look(study, tmp_path, second.folder).looks == 3
    shutil.copytree(tmp_path / "runs", tmp_path / "runs" / "kept")  # a copied look is the same look
    assert look(study, tmp_path, second.folder).looks == 4


def test_other_people_with_the_same_numbers_were_not_looked_at(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look(study, tmp_path, probed(study, tmp_path, "dummy").folder)
    other = renamed(study, "second/")
    done = probed(other, tmp_path, "dummy")
    assert "64 participants carry the number of another participant" in " ".join(capsys.readouterr().err.split())
    assert look(other, tmp_path, done.folder).looks == 1


def test_test_people_may_not_become_val_without_a_reason(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    split = study.people["recommended_split"]
    study.people["recommended_split"] = split.replace({"val": "test", "test": "val"})
    with pytest.raises(LeakError, match=r"16 participants who are train or val now were test in .*--resplit"):
        probed(study, tmp_path, "dummy")
    again = probed(study, tmp_path, "dummy", resplit="the first table was wrong").record
    assert again.resplit is not None
    assert (again.resplit["was_test"], again.resplit["reason"]) == (16, "the first table was wrong")
    assert done.record.resplit is None


def test_an_older_run_locks_the_people_that_it_analysed(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    record = json.loads((done.folder / RECORD).read_text())
    del record["test_people"], record["resplit"]
    (done.folder / RECORD).write_text(json.dumps(record))
    line = {"run": record["id"], "date": "2026-11-01T00:00:00+00:00", "cohort_sha256": record["cohort_sha256"]}
    (tmp_path / "runs" / LEDGER).write_text(json.dumps(line) + "\n")
    assert look(study, tmp_path, probed(study, tmp_path, "dummy", task=HALF).folder).looks == 2
    study.people["recommended_split"] = study.people["recommended_split"].replace({"val": "test", "test": "val"})
    with pytest.raises(LeakError, match="16 participants"):
        probed(study, tmp_path, "dummy")


def test_a_shuffled_table_is_refused_and_one_corrected_label_named(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probed(study, tmp_path, "dummy")
    columns = ["study_group", "age", "recommended_split"]
    good = study.people.copy()
    study.people.loc[0, "study_group"] = "insulin_dependent"
    probed(study, tmp_path, "dummy")
    assert "1 of 64 participants have another number, label, or age and site" in " ".join(
        capsys.readouterr().err.split()
    )
    train = np.flatnonzero(good["recommended_split"] == "train")
    study.people.loc[train, columns] = good.loc[np.roll(train, 1), columns].to_numpy()
    with pytest.raises(LeakError, match="participants have another number, label, or age and site"):
        probed(study, tmp_path, "dummy")


def test_the_same_scans_laid_out_under_other_numbers_are_the_same_people(study: Study, tmp_path: Path) -> None:
    probed(study, tmp_path, "dummy")
    number = dict(zip(study.people["participant_id"], np.roll(study.people["participant_id"], 8), strict=True))
    index = study.stored.index.assign(
        participant=study.stored.index["participant"].map(number),
        volume=[volume_id("again/" + key) for key in study.stored.index["key"]],
    )
    people = study.people.assign(clinical_site="Ourclinic")
    with pytest.raises(LeakError, match="were test in"):
        probed(Study(people, replace(study.stored, index=index)), tmp_path, "dummy")


def test_runs_whose_people_have_other_labels_are_not_compared(study: Study, tmp_path: Path) -> None:
    one = probed(study, tmp_path, "dummy")
    (tmp_path / "elsewhere").mkdir()
    study.people["study_group"] = np.roll(study.people["study_group"], 1)
    two = probed(study, tmp_path, "dummy", runs=tmp_path / "elsewhere" / "runs")
    options = CompareOptions(run=(one.folder, two.folder), runs=tmp_path / "runs", replicates=20)
    with pytest.raises(CohortError, match="another number, label, or age and site"):
        compare(options, clock=lambda: NOW, read=lambda *_: study.stored, tell=lambda _: None)


def test_predict_knows_test_people_from_the_table(study: Study, tmp_path: Path) -> None:
    kept = ~study.stored.index["participant"].isin(
        study.people.loc[study.people["recommended_split"] == "test", "participant_id"]
    )
    index = study.stored.index[kept].reset_index(drop=True)
    without = replace(study.stored, index=index, pooled=study.stored.pooled[kept.to_numpy()])
    done = probed(Study(study.people, without), tmp_path)
    assert len(done.record.test_people) == 16
    table = predict(
        PredictOptions(store="store", run=done.folder, out=tmp_path / "out.csv"), read=lambda *_: study.stored
    ).table
    test = table[(table["level"] == "participant") & (table["split_of_run"] == "test")]
    assert len(test) == 16
    assert set(test["reason"]) == {LOCKED}


def test_a_look_opens_no_group_that_the_task_left_out(study: Study, tmp_path: Path) -> None:
    task = tmp_path / "two.yaml"
    task.write_text("name: two\nclasses: [a, b]\ngroups: {healthy: a, insulin_dependent: b}\n")
    done = probed(study, tmp_path, task=str(task))
    look(study, tmp_path, done.folder)
    table = predict(
        PredictOptions(store="store", run=done.folder, out=tmp_path / "out.csv"), read=lambda *_: study.stored
    ).table
    test = table[(table["level"] == "participant") & (table["split_of_run"] == "test")]
    assert (len(test), int((test["reason"] == LOCKED).sum())) == (16, 8)


def test_new_people_with_old_numbers_are_new(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    other = renamed(study, "second/").stored
    far = replace(other, pooled=other.pooled + np.float32(1000))
    table = predict(PredictOptions(store="store", run=done.folder, out=tmp_path / "out.csv"), read=lambda *_: far).table
    people = table[table["level"] == "participant"]
    assert set(people["split_of_run"]) == {""}
    assert people["abstain"].all()
    assert people["out_of_distribution"].all()
    assert people["flags"].str.contains(OTHER_PERSON, regex=False).all()


def test_a_person_with_an_old_and_a_new_scan_is_the_same(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    index = study.stored.index.copy()
    first = index.groupby("participant").cumcount() == 0
    index.loc[first, "volume"] = [volume_id("new/" + key) for key in index.loc[first, "key"]]
    stored = replace(study.stored, index=index)
    table = predict(
        PredictOptions(store="store", run=done.folder, out=tmp_path / "out.csv"), read=lambda *_: stored
    ).table
    assert (table.loc[table["level"] == "participant", "split_of_run"] != "").all()
    assert not table["flags"].str.contains(OTHER_PERSON, regex=False).any()


@pytest.mark.parametrize("cut", ['{"run": "x", "da', '{"run": "x", "da\n'])
def test_a_line_that_was_cut_is_named_and_gone_on_from(
    study: Study, tmp_path: Path, cut: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = probed(study, tmp_path, "dummy")
    look(study, tmp_path, done.folder)
    with (tmp_path / "runs" / LEDGER).open("a") as file:
        file.write(cut)
    assert look(study, tmp_path, done.folder).looks == 2
    assert f"{LEDGER}: line 2 was cut" in " ".join(capsys.readouterr().err.split())
    assert json.loads((tmp_path / "runs" / LEDGER).read_text().splitlines()[2])["run"] == done.record.id


def test_six_evaluations_at_once_lose_no_look(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    fill_store(study, tmp_path / "store")
    code = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime;"
        "from classify.evaluate import evaluate; from classify.run_options import EvaluateOptions;"
        "from embeddings_store.snapshot import read_snapshot;"
        "run, table, store = map(Path, sys.argv[1:]);"
        "options = EvaluateOptions(run=run, store=str(store), participants=table, split='test', replicates=20);"
        "done = evaluate(options, now=datetime.now(UTC),"
        " read=lambda *_: read_snapshot(str(store)));"
        "print(done.looks)"
    )
    write_snapshot(str(tmp_path / "store"))
    words = [sys.executable, "-c", code, str(done.folder), str(study.write(tmp_path)), str(tmp_path / "store")]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    numbers = [process.communicate(timeout=300)[0].strip() for process in started]
    assert sorted(numbers) == list("123456")
    assert len(ledger(tmp_path)) == 6
    entries = load_run(done.folder).record["evaluations"]
    assert sorted(entry["look"] for entry in entries) == [1, 2, 3, 4, 5, 6]
    assert len({entry["id"] for entry in entries}) == 6


def test_no_number_of_a_participant_stands_in_record_or_ledger(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    look(study, tmp_path, done.folder)
    (line,) = ledger(tmp_path)
    locked = pd.read_parquet(done.folder / "cohort.parquet").query("split == 'test'")["participant"].unique()
    assert set(line["people"]) == {digest_person(person) for person in locked}
