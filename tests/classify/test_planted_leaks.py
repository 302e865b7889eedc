"""Every leak of the evaluation plan, planted on purpose: each is refused, or shown to leave the numbers at chance."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, fill_store, make_study
from command_line import Command
from test_calibrate import overconfident

from classify.baselines.covariates import predict_baselines
from classify.cohort.splits import check_no_leak, grouped_folds
from classify.cohort.tasks import STUDY_GROUPS, TASKS
from classify.errors import CohortError, LeakError
from classify.evaluate import evaluate
from classify.features.table import FeatureTable
from classify.fitting.aggregate import LEARNED_WEIGHTS, MEAN_FEATURES, MEAN_LOGITS
from classify.fitting.model import ModelSpec, fit_model, fit_on
from classify.judging.calibrate import FOLDS as CALIBRATION_FOLDS
from classify.judging.calibrate import cross_fit
from classify.judging.metrics import all_metrics
from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.summary import headline
from classify.run_options import EvaluateOptions
from classify.search import folds as folds_module
from classify.search.folds import make_fold, make_folds
from reports.flow import StoreCounts, make_flow

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


def probed(study: Study, folder: Path, model: str = "linear", **options: Any) -> Probed:
    folder.mkdir(exist_ok=True)
    plain = {"layer": "last", "pools": ("mean",), "aggregate": MEAN_LOGITS, "replicates": 50}
    asked = plain | {"runs": folder / "runs", "participants": study.write(folder)} | options
    return probe(ProbeOptions(store="store", model=model, **asked), now=NOW, read=lambda *_: study.stored)


def refused(study: Study, folder: Path, error: type[Exception], message: str) -> None:
    """The probe is refused with one message, and leaves nothing behind."""
    with pytest.raises(error, match=message):
        probed(study, folder)
    assert not (folder / "runs").exists()


def features(study: Study) -> FeatureTable:
    """Raw features as a probe has them, made without the door of the cohort."""
    people = study.people.set_index("participant_id").loc[study.stored.index["participant"]]
    index, x = study.stored.index, study.stored.pooled[:, 1, 0]
    label = people["study_group"].map(TASKS["four-class"].class_of).to_numpy(np.int64)
    columns = {name: index[name].to_numpy(str) for name in ("volume", "participant", "eye", "protocol")}
    split = people["recommended_split"].to_numpy(str)
    return FeatureTable(x=x, y=label, **columns, split=split, names=tuple("abcdef"), space="s")


def train_table(study: Study) -> FeatureTable:
    return features(study).only("train")


def auroc_on_val(table: FeatureTable, rng: np.random.Generator | None) -> float:
    """Fit on train, whose labels are dealt anew to its participants where an rng is given, and judge on val."""
    train, val = table.only("train"), table.only("val")
    if rng is not None:
        _, first, person = np.unique(train.participant, return_index=True, return_inverse=True)
        train = replace(train, y=rng.permutation(train.y[first])[person])
    people = fit_model(ModelSpec("linear"), train, classes=4, seed=0).predict(val, classes=4, split="val")[
        "participant"
    ]
    once = np.ones((len(people.label), 1))
    return float(all_metrics(people.label, people.probability, once, STUDY_GROUPS)["macro_auroc"][0])


class TestALeakedParticipant:
    def test_in_two_splits_is_refused_by_name(self, study: Study, tmp_path: Path) -> None:
        leaked = study.people[study.people["recommended_split"] == "test"].iloc[[0]].assign(recommended_split="train")
        study.people = pd.concat([study.people, leaked])
        refused(study, tmp_path, LeakError, leaked["participant_id"].iloc[0])

    def test_in_two_folds_is_refused(self, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
        """Folds that were dealt by volume, as a plain k-fold would, have everybody on two sides."""
        train = train_table(study)

        def by_volume(participant: np.ndarray, label: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
            return np.arange(len(participant)) % folds

        monkeypatch.setattr(folds_module, "grouped_folds", by_volume)
        with pytest.raises(LeakError, match="on two sides"):
            make_folds(train, seed=0)

    def test_is_named_with_both_sides(self) -> None:
        with pytest.raises(LeakError, match=r"1001 \(train and test\)"):
            check_no_leak({"train": ["1001", "1002"], "test": ["1001"]})


class TestAShuffledLabel:
    def test_of_everybody_stays_at_chance(self, tmp_path: Path) -> None:
        study = make_study(160, effect=2.0)
        real = probed(study, tmp_path / "real").record
        rng = np.random.default_rng(5)
        study.people["study_group"] = rng.permutation(study.people["study_group"])
        null = probed(study, tmp_path / "null").record
        assert real.judged.permutation["val"]["p_values"]["macro_auroc"].value < 0.01
        assert null.judged.permutation["val"]["p_values"]["macro_auroc"].value > 0.05
        measured = null.judged.metrics["participant"]["val"]["macro_auroc"]
        assert measured.low < 0.5 < measured.high

    def test_of_train_alone_teaches_nothing(self) -> None:
        """One dealing may lean either way along a strong effect; over many dealings nothing is left."""
        table = features(make_study(160, effect=2.0))
        rng = np.random.default_rng(1)
        shuffled = [auroc_on_val(table, rng) for _ in range(20)]
        assert auroc_on_val(table, None) > 0.8
        assert abs(np.mean(shuffled) - 0.5) < 0.1


class TestADuplicatedScan:
    def test_under_two_participants_in_two_splits_is_refused_with_both_names(
        self, study: Study, tmp_path: Path
    ) -> None:
        split = study.people.set_index("participant_id")["recommended_split"].loc[study.stored.index["participant"]]
        one, two = (int(np.flatnonzero((split == side).to_numpy())[0]) for side in ("train", "test"))
        study.stored.pooled[two] = study.stored.pooled[one]
        names = sorted(study.stored.index.loc[[one, two], "participant"])
        refused(study, tmp_path, LeakError, ", ".join(names))

    def test_of_one_participant_counts_once_and_is_said(self, study: Study, tmp_path: Path) -> None:
        study.stored.pooled[1] = study.stored.pooled[0]
        flow = {step["step"]: step for step in probed(study, tmp_path, "dummy").record.cohort.flow}
        assert flow["copy"]["volumes"] == 1
        assert flow["analysed"]["volumes"] == flow["store"]["volumes"] - 1


class TestAWrongJoin:
    def test_with_the_table_of_other_people_is_refused(self, study: Study, tmp_path: Path) -> None:
        study.people["participant_id"] = [f"9{number:03d}" for number in range(len(study.people))]
        refused(study, tmp_path, CohortError, "do the two belong together")

    def test_with_shifted_ids_is_refused(self, tmp_path: Path) -> None:
        study = make_study(160, effect=2.0)
        study.people["participant_id"] = np.roll(study.people["participant_id"], 1)
        refused(study, tmp_path, CohortError, "the ids are shifted, or store and table belong to different data")

    def test_that_hides_from_the_sites_stays_at_chance(self, tmp_path: Path) -> None:
        """Ids shifted within their site pass the door; what is learned then is nothing, and val says so."""
        study = make_study(240, effect=2.0)
        for _, rows in study.people.groupby("clinical_site").groups.items():
            ids = study.people.loc[rows, "participant_id"].to_numpy(object)
            study.people.loc[rows, "participant_id"] = np.roll(ids, 7)
        measured = probed(study, tmp_path).record.judged.metrics["participant"]["val"]["macro_auroc"]
        assert measured.low < 0.5 < measured.high

    def test_of_a_finished_run_gets_no_look_at_test(self, study: Study, tmp_path: Path) -> None:
        run = probed(study, tmp_path, "dummy").folder
        for _, rows in study.people.groupby("clinical_site").groups.items():
            ids = study.people.loc[rows, "participant_id"].to_numpy(object)
            study.people.loc[rows, "participant_id"] = np.roll(ids, 1)
        options = EvaluateOptions(
            store="store", run=run, participants=study.write(tmp_path), split="test", replicates=10
        )
        with pytest.raises(CohortError, match="made on the cohort"):
            evaluate(options, now=NOW, read=lambda *_: study.stored)

    def test_of_vectors_and_index_is_found_by_equal_embeddings(self, study: Study, tmp_path: Path) -> None:
        study.stored = replace(study.stored, pooled=np.repeat(study.stored.pooled[:1], len(study.stored.pooled), 0))
        refused(study, tmp_path, CohortError, "have the same embedding")


class TestLabelsAfterTheFact:
    def test_a_column_of_hba1c_in_the_participants_table_changes_no_number(self, study: Study, tmp_path: Path) -> None:
        plain = probed(study, tmp_path / "plain").record.to_dict()
        step = study.people["study_group"].map(STUDY_GROUPS.index)
        study.people = study.people.assign(hba1c=5 + step, glucose=90 + 40 * step)
        more = probed(study, tmp_path / "more").record.to_dict()
        for name in ("metrics", "baselines", "added_to_age_site", "cohort_sha256"):
            assert more[name] == plain[name]

    def test_hba1c_moves_the_ceiling_and_nothing_else(self, study: Study, tmp_path: Path) -> None:
        plain = probed(study, tmp_path / "plain").record
        path = tmp_path / "measurement.csv"
        step = study.people["study_group"].map(STUDY_GROUPS.index)
        lines = [
            f'{person},{5.0 + group + 0.01 * n},"import_hba1c, HbA1c"'
            for n, (person, group) in enumerate(zip(study.people["participant_id"], step, strict=True))
        ]
        path.write_text("\n".join(["person_id,value_as_number,measurement_source_value", *lines]))
        more = probed(study, tmp_path / "more", measurements=path).record
        assert more.judged.baselines["HbA1c (ceiling)"]["val"]["macro_auroc"].value == 1.0
        assert more.judged.metrics == plain.judged.metrics
        assert more.cohort.cohort_sha256 == plain.cohort.cohort_sha256
        for name in ("age+site", "embedding+age+site"):
            assert more.judged.baselines[name] == plain.judged.baselines[name]

    def test_no_option_asks_for_it(self, study: Study, tmp_path: Path, command: Command) -> None:
        fill_store(study, tmp_path / "store")
        asked = ("--store", tmp_path / "store", "--participants", study.write(tmp_path), "--model", "dummy")
        done = command("classify", "probe", *asked, "--covariates", "hba1c")
        assert (done.code, done.stdout) == (2, "")
        (tmp_path / "mine.yaml").write_text(
            "name: mine\nclasses: [a, b]\ngroups: {healthy: a, insulin_dependent: b}\ncovariates: [hba1c]\n"
        )
        done = command("classify", "probe", *asked, "--task", tmp_path / "mine.yaml")
        assert done.code == 1
        assert "covariate hba1c: refused" in done.stderr


def contents(path: Path) -> dict[str, Any]:
    """Give the arrays of an npz as lists, or the bytes of another file."""
    if path.suffix != ".npz":
        return {"bytes": path.read_bytes()}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tolist() for name in arrays.files}


class TestWhatIsLearnedBeforeOrAfterAHead:
    @pytest.mark.parametrize(
        ("model", "aggregation"),
        [("linear", LEARNED_WEIGHTS), ("linear", MEAN_FEATURES), ("lgbm", MEAN_LOGITS), ("knn", MEAN_LOGITS)],
    )
    def test_a_fold_s_state_does_not_change_with_its_held_out_rows(
        self, study: Study, tmp_path: Path, model: str, aggregation: str
    ) -> None:
        train = train_table(study)
        fitted = np.isin(train.participant, np.unique(train.participant)[:24])
        other = replace(train, x=train.x.copy(), y=train.y.copy(), protocol=train.protocol.copy())
        rng = np.random.default_rng(0)
        other.x[~fitted] += rng.normal(50, 9, other.x[~fitted].shape).astype(np.float32)
        other.y[~fitted] = rng.permutation(other.y[~fitted])
        other.protocol[~fitted] = "unseen"
        saved = []
        for number, table in enumerate((train, other)):
            folder = tmp_path / str(number)
            folder.mkdir()
            spec = ModelSpec(model, aggregation=aggregation)
            fit_on(spec, make_fold(table, fitted, 0).fit, classes=4, seed=0).save(folder)
            saved.append({path.name: contents(path) for path in sorted(folder.iterdir())})
        assert {"standardiser.npz", "model.json"} < set(saved[0])
        assert saved[0] == saved[1]

    def test_a_changed_training_row_changes_it(self, study: Study) -> None:
        """The test above can fail: the same change, to the other side."""
        train = train_table(study)
        fitted = np.isin(train.participant, np.unique(train.participant)[:24])
        other = replace(train, x=train.x.copy())
        other.x[fitted] += np.random.default_rng(0).normal(50, 9, other.x[fitted].shape).astype(np.float32)
        one, two = (make_fold(table, fitted, 0).fit.standardiser for table in (train, other))
        assert not np.allclose(one.mean, two.mean)

    def test_test_rows_change_neither_model_nor_calibration(self, study: Study, tmp_path: Path) -> None:
        before = probed(study, tmp_path / "before", calibrate="isotonic").folder / "model"
        owner = study.people.set_index("participant_id")["recommended_split"]
        rows = (owner[study.stored.index["participant"]] == "test").to_numpy()
        study.stored.pooled[rows] += np.random.default_rng(0).normal(3, 9, study.stored.pooled[rows].shape).astype("f4")
        after = probed(study, tmp_path / "after", calibrate="isotonic").folder / "model"
        one, two = (
            {path.relative_to(root).as_posix(): contents(path) for path in root.rglob("*") if path.is_file()}
            for root in (before, after)
        )
        assert {"calibration.json", "standardiser.npz", "head.npz"} < set(one)
        assert one == two

    def test_a_calibration_never_sees_whom_it_is_judged_on(self) -> None:
        people = overconfident(60)
        fold = grouped_folds(people.participant, people.label, folds=CALIBRATION_FOLDS, seed=0)
        moved = replace(people, logits=people.logits.copy())
        moved.logits[0] *= -9
        one, two = (cross_fit("temperature", part, seed=0).probability for part in (people, moved))
        same_fold = fold == fold[0]
        same_fold[0] = False
        assert (one[same_fold] == two[same_fold]).all()
        assert (one[fold != fold[0]] != two[fold != fold[0]]).any()

    def test_baselines_learn_scales_on_train_alone(self, study: Study, tmp_path: Path) -> None:
        people = study.people.assign(
            unit=study.people["participant_id"],
            participant=study.people["participant_id"],
            site=study.people["clinical_site"],
            age=study.people["age"].astype(float),
            label=study.people["study_group"].map(TASKS["four-class"].class_of),
        )
        train, val = (people[people["recommended_split"] == side].reset_index(drop=True) for side in ("train", "val"))
        older = val.assign(age=[float(val["age"][0]), *(val["age"][1:] + 500)])
        one, two = (
            predict_baselines(TASKS["four-class"], train, side, split="val", names=["age+site"])["age+site"].logits[0]
            for side in (val, older)
        )
        assert (one == two).all()


def test_what_could_not_be_looked_for_stands_in_record_and_terminal(tmp_path: Path) -> None:
    study = make_study()
    done = probe(
        ProbeOptions(
            store="store", model="dummy", participants=study.write(tmp_path), replicates=20, runs=tmp_path / "runs"
        ),
        now=NOW, read=lambda *_: study.stored, tell=lambda _: None,
    )  # fmt: skip
    (note,) = [step for step in done.record.cohort.flow if step["step"] == "near copies"]
    assert note["kind"] == "note"
    assert note["reason"].startswith("near copies could not be looked for: 256 volumes have no thumbnail")
    assert any(note["reason"] in line for line in headline(done.record))
    counts = StoreCounts(256, 256, {}, 0)
    assert any(note["reason"] in noted.reason for noted in make_flow(counts, done.record.cohort.flow).notes)


def test_sites_that_disagree_are_counted_in_record_and_terminal(tmp_path: Path) -> None:
    study = make_study(192)
    moved = study.people.index[study.people["clinical_site"] != "UW"][:46]
    study.people.loc[moved, "clinical_site"] = "UW"
    done = probed(study, tmp_path, "dummy")
    (note,) = [step for step in done.record.cohort.flow if step["step"] == "site disagrees"]
    assert (note["kind"], note["participants"]) == ("note", 46)
    said = [line for line in headline(done.record) if line.startswith("site disagrees: 46 participants")]
    assert len(said) == 1
    assert "differs from that of the store, or that the id encodes" in said[0]
