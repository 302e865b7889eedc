"""A scan is known by what it holds: numbers and keys may come to mean others, and then nothing is said in silence."""

from dataclasses import replace
from hashlib import md5
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, make_study
from test_evaluate import NOW, look, probed

from classify.compare import compare
from classify.errors import CohortError, LeakError, RunFolderError
from classify.fitting.source import features_of_run
from classify.predict import predict
from classify.reference.flags import LOCKED, OTHER_OBJECT
from classify.run.folder import COHORT, load_run
from classify.run_options import PredictOptions
from classify.study_options import CompareOptions
from embeddings_store.schema import volume_id

HALF, MEDICATED = "healthy-vs-rest", "medicated-vs-not"


@pytest.fixture
def study() -> Study:
    """A study whose store knows the md5 of every object."""
    return with_md5(make_study(effect=1.0))


def with_md5(study: Study) -> Study:
    """Give each object an md5 and an etag that follow its vectors."""
    sums = [md5(vectors.tobytes(), usedforsecurity=False).hexdigest() for vectors in study.stored.pooled]
    index = study.stored.index.assign(etag=sums)
    return Study(study.people, replace(study.stored, index=index, md5=dict(zip(index["volume"], sums, strict=True))))


def dealt_anew(study: Study, seed: int = 3) -> Study:
    """Number the people of each split in another order, as a script does that numbers a sorted table: keys stay."""
    people, rng = study.people, np.random.default_rng(seed)
    number = {
        old: new
        for _, part in people.groupby("recommended_split")
        for old, new in zip(part["participant_id"], rng.permutation(part["participant_id"]), strict=True)
    }
    index = study.stored.index
    slot = index.groupby("participant").cumcount()
    place = {one: row for row, one in enumerate(zip(index["participant"], slot, strict=True))}
    target = np.array([place[number[name], at] for name, at in zip(index["participant"], slot, strict=True)])
    pooled = np.empty_like(study.stored.pooled)
    pooled[target] = study.stored.pooled
    table = people.assign(participant_id=people["participant_id"].map(number), clinical_site="Ours")
    return with_md5(Study(table, replace(study.stored, pooled=pooled)))


def without_age(study: Study) -> Study:
    """Take away what could tell people apart but their scans and labels."""
    return Study(study.people.assign(age="", clinical_site="Ours"), study.stored)


def test_numbers_that_mean_other_scans_now_are_refused(study: Study, tmp_path: Path) -> None:
    study = without_age(study)
    probed(study, tmp_path, "dummy")
    with pytest.raises(LeakError, match=r"other objects, under the same keys, than in .*--resplit"):
        probed(dealt_anew(study), tmp_path, "dummy")


def test_a_store_without_md5_and_etags_is_known_by_its_vectors(study: Study, tmp_path: Path) -> None:
    bare = replace(study.stored, index=study.stored.index.assign(etag=""), md5={})
    probed(without_age(Study(study.people, bare)), tmp_path, "dummy")
    anew = dealt_anew(study)
    bare = replace(anew.stored, index=anew.stored.index.assign(etag=""), md5={})
    with pytest.raises(LeakError, match="participants have another number"):
        probed(without_age(Study(anew.people, bare)), tmp_path, "dummy")


def test_a_table_shuffled_under_another_task_at_one_site_is_refused(study: Study, tmp_path: Path) -> None:
    people = study.people.assign(clinical_site="Ours")
    probed(Study(people, study.stored), tmp_path, "dummy", task=HALF)
    train = np.flatnonzero(people["recommended_split"] == "train")
    for columns in (["study_group"], ["study_group", "age"]):
        shuffled = people.copy()
        shuffled.loc[train, columns] = people.loc[np.random.default_rng(5).permutation(train), columns].to_numpy()
        with pytest.raises(LeakError, match="participants have another number, label, or age and site"):
            probed(Study(shuffled, study.stored), tmp_path, "dummy", task=MEDICATED)


def test_a_group_that_an_older_run_does_not_name_is_told_by_its_class(study: Study, tmp_path: Path) -> None:
    path = probed(study, tmp_path, "dummy").folder / COHORT
    pd.read_parquet(path).drop(columns="group").to_parquet(path, index=False)
    study.people["study_group"] = np.random.default_rng(5).permutation(study.people["study_group"])
    with pytest.raises(LeakError, match="participants have another number, label, or age and site"):
        probed(study, tmp_path, "dummy", task=HALF)


def test_another_task_of_the_same_table_goes_on(study: Study, tmp_path: Path) -> None:
    for task in (HALF, MEDICATED, "four-class"):
        probed(study, tmp_path, "dummy", task=task)


def test_one_replaced_object_is_named_and_no_reason_to_refuse(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probed(study, tmp_path, "dummy")
    pooled = study.stored.pooled.copy()
    pooled[0] += 0.5
    probed(with_md5(Study(study.people, replace(study.stored, pooled=pooled))), tmp_path, "dummy")
    assert "1 of 256 volumes are other objects, under the same keys" in " ".join(capsys.readouterr().err.split())


def test_a_new_etag_of_the_same_bytes_is_the_same_object(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    touched = replace(study.stored, index=study.stored.index.assign(etag="another"), pooled=study.stored.pooled + 1e-6)
    assert look(Study(study.people, touched), tmp_path, done.folder).looks == 1


def test_an_old_run_is_not_judged_on_other_scans(study: Study, tmp_path: Path) -> None:
    study = without_age(study)
    study.people["study_group"] = np.where(study.people["study_group"] == "healthy", "healthy", "insulin_dependent")
    done = probed(study, tmp_path, "dummy", task=HALF)
    pooled = study.stored.pooled[::-1].copy()
    other = with_md5(Study(study.people, replace(study.stored, pooled=pooled)))
    with pytest.raises(RunFolderError, match="of its 256 volumes are other objects in the store now"):
        look(other, tmp_path, done.folder)
    with pytest.raises(RunFolderError, match="are other objects"):
        features_of_run(load_run(done.folder), other.stored)


def test_runs_on_other_scans_are_not_compared(study: Study, tmp_path: Path) -> None:
    one = probed(study, tmp_path, "dummy")
    (tmp_path / "elsewhere").mkdir()
    other = with_md5(Study(study.people, replace(study.stored, pooled=study.stored.pooled[::-1].copy())))
    two = probed(other, tmp_path, "dummy", runs=tmp_path / "elsewhere" / "runs")
    options = CompareOptions(run=(one.folder, two.folder), runs=tmp_path / "runs", replicates=20)
    with pytest.raises(CohortError, match="volumes are other objects, under the same keys"):
        compare(options, clock=lambda: NOW, read=lambda *_: study.stored, tell=lambda _: None)


def volumes(study: Study, run: Path, folder: Path) -> pd.DataFrame:
    """Predict, and give the lines of volumes by the row of the store."""
    table = predict(PredictOptions(store="store", run=run, out=folder / "out.csv"), read=lambda *_: study.stored).table
    return table[table["level"] == "volume"].set_index("unit").loc[study.stored.index["volume"]].reset_index()


def test_scans_that_were_laid_out_again_are_known_by_md5(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    index = study.stored.index
    again = index.assign(
        participant=[f"9{name[1:]}" for name in index["participant"]],
        volume=[volume_id("again/" + key) for key in index["key"]],
    )
    sums = dict(zip(again["volume"], index["etag"], strict=True))
    moved = Study(study.people, replace(study.stored, index=again, md5=sums, pooled=study.stored.pooled + 1e-6))
    found = volumes(moved, done.folder, tmp_path)
    split = dict(zip(study.people["participant_id"], study.people["recommended_split"], strict=True))
    assert found["split_of_run"].tolist() == [split[name] for name in index["participant"]]
    assert found.loc[found["split_of_run"] == "train", "ood_percentile"].isna().all()
    assert set(found.loc[found["split_of_run"] == "test", "reason"]) == {LOCKED}


def test_another_object_under_a_known_key_is_new(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    other = with_md5(Study(study.people, replace(study.stored, pooled=make_study(effect=1.0, seed=9).stored.pooled)))
    found = volumes(other, done.folder, tmp_path)
    assert set(found["split_of_run"]) == {""}
    assert found["flags"].str.contains(OTHER_OBJECT, regex=False).all()
    assert found["ood_percentile"].notna().all()


def test_a_run_of_older_code_is_read(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path, "dummy")
    path = done.folder / COHORT
    pd.read_parquet(path).drop(columns=["size", "etag", "md5", "vectors", "group"]).to_parquet(path, index=False)
    probed(study, tmp_path, "dummy")
    assert look(study, tmp_path, done.folder).looks == 1
