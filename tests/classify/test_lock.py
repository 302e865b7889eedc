"""The lock counts people: whatever the task, table, folder or ledger, and whoever looks at the same moment."""

import errno
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study
from command_line import Command
from test_evaluate import NOW, ledger, look, probed

from classify.cohort.identity import digest_person
from classify.compare import compare
from classify.errors import CohortError, LeakError, RunFolderError
from classify.evaluate import evaluate
from classify.evaluating.look import Evaluated
from classify.predict import predict
from classify.reference.flags import LOCKED, OTHER_PERSON
from classify.run.earlier import GONE, find_earlier
from classify.run.folder import load_run
from classify.run.ledger import COUNTED_HERE, LEDGER, LOCK
from classify.run.record import RECORD
from classify.run.summary import print_evaluation
from classify.run_options import EvaluateOptions, PredictOptions
from classify.study_options import CompareOptions
from embeddings_store.schema import volume_id
from reports.ledger import read_looks, say_looks
from reports.runs import read_runs
from reports.serve import Dashboard

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


def test_a_look_through_another_task_a_changed_covariate_or_another_cohort_counts(study: Study, tmp_path: Path) -> None:
    for looks, task in enumerate(["four-class", HALF, "medicated-vs-not", "insulin-vs-rest"], 1):
        assert look(study, tmp_path, probed(study, tmp_path, "dummy", task=task).folder).looks == looks
    study.people.loc[0, "age"] = "41"
    assert look(study, tmp_path, probed(study, tmp_path, "dummy").folder).looks == 5
    tested = study.people["recommended_split"] == "test"
    study.people.loc[tested, "clinical_site"] = "Ourclinic"
    study.people.loc[tested, "age"] = ""
    study.people["study_visit_date"] = "2023-08-02"
    assert look(study, tmp_path, probed(study, tmp_path, "dummy").folder).looks == 6
    fewer = Study(study.people, replace(study.stored, index=study.stored.index[:-1], pooled=study.stored.pooled[:-1]))
    assert look(fewer, tmp_path, probed(fewer, tmp_path, "dummy").folder).looks == 7


def test_a_deleted_ledger_and_a_copied_folder_count(study: Study, tmp_path: Path) -> None:
    first, second = probed(study, tmp_path, "dummy"), probed(study, tmp_path, "dummy")
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    assert look(study, tmp_path, first.folder).looks == 1
    assert look(study, tmp_path, tmp_path / "copy" / first.folder.name).looks == 2
    (tmp_path / "runs" / LEDGER).unlink()
    assert look(study, tmp_path, second.folder).looks == 3
    shutil.copytree(tmp_path / "runs", tmp_path / "runs" / "kept")  # a copied look is the same look
    assert look(study, tmp_path, second.folder).looks == 4


def test_a_look_in_a_copy_nearby_counts_from_either_side(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    far = tmp_path / "backup" / "monday" / "kept"
    for looks, place in enumerate([tmp_path / "runs", tmp_path / "beside", tmp_path / "backup" / "runs", far], 1):
        if not place.exists():
            shutil.copytree(tmp_path / "runs", place)
        assert look(study, tmp_path, place / done.folder.name).looks == looks
    assert look(study, tmp_path, done.folder).looks == 4  # "far" is not nearby, as every page says
    inside = tmp_path / "runs" / "kept"
    shutil.copytree(done.folder, inside / done.folder.name)
    assert look(study, tmp_path, inside / done.folder.name).looks == 5


def test_a_record_that_counted_more_than_is_left_to_read_is_believed(study: Study, tmp_path: Path) -> None:
    first, second = probed(study, tmp_path, "dummy"), probed(study, tmp_path, "dummy")
    assert [look(study, tmp_path, run.folder).looks for run in (first, first, second)] == [1, 2, 3]
    shutil.rmtree(first.folder)
    (tmp_path / "runs" / LEDGER).unlink()
    assert look(study, tmp_path, second.folder).looks == 4
    said = say_looks(read_looks(tmp_path / "runs", read_runs(tmp_path / "runs")))
    assert said.startswith(f"4 times ({GONE} on a day that nothing names; {GONE} on")


def test_numbers_of_test_in_a_record_are_a_look_though_nothing_tells_of_it(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    look(study, tmp_path, done.folder)
    (tmp_path / "runs" / LEDGER).unlink()
    record = json.loads((done.folder / RECORD).read_text())
    (done.folder / RECORD).write_text(json.dumps(record | {"evaluations": []}))
    assert look(study, tmp_path, probed(study, tmp_path, "dummy").folder).looks == 2


def test_whom_a_deleted_run_looked_at_may_not_become_val_either(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    look(study, tmp_path, done.folder)
    shutil.rmtree(done.folder)
    study.people["recommended_split"] = study.people["recommended_split"].replace({"val": "test", "test": "val"})
    with pytest.raises(LeakError, match="16 participants who are train or val now were test in"):
        probed(study, tmp_path, "dummy")


def test_a_fresh_folder_of_runs_says_that_it_counts_for_itself_alone(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look(study, tmp_path, probed(study, tmp_path, "dummy").folder)
    fresh = look(study, tmp_path, probed(study, tmp_path, "dummy", runs=tmp_path / "fresh").folder)
    assert fresh.looks == 1
    print_evaluation(fresh.record, fresh.looks)
    assert f"looked at 1 time; {COUNTED_HERE}" in " ".join(capsys.readouterr().out.split())


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
    assert again.cohort.resplit is not None
    assert (again.cohort.resplit["was_test"], again.cohort.resplit["reason"]) == (16, "the first table was wrong")
    assert done.record.cohort.resplit is None


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
    assert len(done.record.cohort.test_people) == 16
    table = predict(
        PredictOptions(store="store", run=done.folder, out=tmp_path / "out.csv"), read=lambda *_: study.stored
    ).table
    test = table[(table["level"] == "participant") & (table["split_of_run"] == "test")]
    assert len(test) == 16
    assert set(test["reason"]) == {LOCKED}


def registered_twice(study: Study) -> tuple[Study, str]:
    """A test person whose scans lie in the store once more, under a number that no table has."""
    index, people = study.stored.index, study.people
    one = str(people.loc[people["recommended_split"] == "test", "participant_id"].iloc[0])
    own = index["participant"] == one
    again = index[own].assign(participant="9999", volume=[volume_id("again/" + key) for key in index.loc[own, "key"]])
    pooled = np.concatenate([study.stored.pooled, study.stored.pooled[own.to_numpy()]])
    stored = replace(study.stored, index=pd.concat([index, again], ignore_index=True), pooled=pooled)
    return Study(people, stored), one


def answers(study: Study, run: Path, out: Path) -> pd.DataFrame:
    table = predict(PredictOptions(store="store", run=run, out=out), read=lambda *_: study.stored).table
    return table[table["level"] == "participant"].set_index("participant")["reason"]


def test_a_locked_person_is_locked_under_another_number_too(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    twice, one = registered_twice(study)
    said = answers(twice, done.folder, tmp_path / "out.csv")
    assert (said["9999"], said[one]) == (LOCKED, LOCKED)
    assert (said == LOCKED).sum() == 17
    look(study, tmp_path, done.folder)
    assert not (answers(twice, done.folder, tmp_path / "again.csv") == LOCKED).any()


def test_a_copy_of_a_test_person_is_not_trained_on(study: Study, tmp_path: Path) -> None:
    twice, one = registered_twice(study)
    train = study.people["participant_id"] == one
    people = study.people.assign(
        participant_id=study.people["participant_id"].mask(train, "9999"),
        recommended_split=study.people["recommended_split"].mask(train, "train"),
    )
    with pytest.raises(LeakError, match=f"the same scan stands under several participants: {one}, 9999"):
        probed(Study(people, twice.stored), tmp_path)


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


@pytest.mark.parametrize("between", ["\0\0", "\n\0\0\n", '{"run": "x", "da', '\0{"run": "x\0'])
def test_nul_bytes_and_a_cut_that_ran_into_the_next_line_hide_no_look(
    study: Study, tmp_path: Path, between: str
) -> None:
    done = probed(study, tmp_path, "dummy")
    look(study, tmp_path, done.folder)
    ledger_file = tmp_path / "runs" / LEDGER
    line = ledger_file.read_text().strip()
    other = json.dumps(json.loads(line) | {"id": "f" * 16})
    ledger_file.write_text(f"\0{line}{between}{other}\0\n")
    assert look(study, tmp_path, done.folder).looks == 3


@pytest.mark.parametrize("name", [LEDGER, LOCK])
def test_nobody_looks_where_the_ledger_cannot_be_written(study: Study, tmp_path: Path, name: str) -> None:
    done = probed(study, tmp_path, "dummy")
    before = (done.folder / RECORD).read_text()
    (tmp_path / "runs" / name).mkdir()
    with pytest.raises(RunFolderError, match="the test split stays locked"):
        look(study, tmp_path, done.folder)
    assert (done.folder / RECORD).read_text() == before


def test_a_full_disk_looks_at_nobody_and_closes_nothing(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = probed(study, tmp_path, "dummy")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("classify.run.ledger.os.fsync", fail)
        with pytest.raises(RunFolderError, match="No space left"):
            look(study, tmp_path, done.folder)
    assert ledger(tmp_path) == []
    assert look(study, tmp_path, done.folder).looks == 1


def test_twelve_evaluations_at_once_lose_no_look(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    study.write(tmp_path)
    with ProcessPoolExecutor(12, mp_context=get_context("fork")) as pool:
        numbers = [each.result(300).looks for each in [pool.submit(look_once, study, done.folder) for _ in range(12)]]
    assert sorted(numbers) == list(range(1, 13))
    assert len(ledger(tmp_path)) == 12
    entries = load_run(done.folder).record.evaluations
    assert sorted(entry["look"] for entry in entries) == list(range(1, 13))
    assert len({entry["id"] for entry in entries}) == 12


def look_once(study: Study, run: Path) -> Evaluated:
    options = EvaluateOptions(
        store="store", run=run, participants=run.parent.parent / "participants.tsv", split="test", replicates=20
    )
    return evaluate(options, now=NOW, read=lambda *_: study.stored)


def test_the_lock_that_stays_beside_the_runs_is_nobodys_run(study: Study, tmp_path: Path, command: Command) -> None:
    done = probed(study, tmp_path, "dummy")
    look(study, tmp_path, done.folder)
    runs = tmp_path / "runs"
    assert (runs / LOCK).exists()
    assert [run.id for run in read_runs(runs)] == [done.record.id]
    assert len(find_earlier(runs, pytest.fail)) == 1
    assert LOCK not in Dashboard(runs, runs, b"k" * 16).index()
    assert Dashboard(runs, runs, b"k" * 16).html_files() == []
    asked = ("--run", done.folder, "--runs", runs, "--replicates", 20, "--json")
    compared = command("classify", "compare", *asked)
    assert compared.code == 0, compared.stderr
    assert LOCK not in compared.stdout + compared.stderr


def test_no_number_of_a_participant_stands_in_record_or_ledger(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    look(study, tmp_path, done.folder)
    (line,) = ledger(tmp_path)
    locked = pd.read_parquet(done.folder / "cohort.parquet").query("split == 'test'")["participant"].unique()
    assert set(line["people"]) == {digest_person(person) for person in locked}


def test_a_run_that_cannot_be_read_is_said_to_hide_its_test_people(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    (done.folder / "cohort.parquet").write_bytes(b"no table")
    said: list[str] = []
    assert find_earlier(done.folder.parent, said.append) == []
    (line,) = said
    assert line.startswith(f"run folder {done.folder.name}: ")
    assert line.endswith("while reading; its test people are not known here")
