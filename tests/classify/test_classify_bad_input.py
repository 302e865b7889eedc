"""Bad input to the commands: one clear message each, nothing invented, nothing left behind."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from classify_study import Study, fill_store, make_study
from command_line import Command, Finished, named_in

from classify.cohort.tasks import HEALTHY, INSULIN, STUDY_GROUPS


@dataclass
class Place:
    """A folder with a store and a table, and a probe of them."""

    folder: Path
    command: Command
    patch: pytest.MonkeyPatch

    def fill(self, study: Study) -> None:
        """Write store and table; the writer refuses NaN, so a store that holds some is put in place of the read one."""
        study.write(self.folder)
        if np.isfinite(study.stored.pooled).all():
            fill_store(study, self.folder / "store")
        else:
            self.patch.setattr("classify.features.stores.read_features_source", lambda *_, **__: study.stored)

    def run(self, verb: str, *more: object) -> Finished:
        asked = ("--store", self.folder / "store", "--participants", self.folder / "participants.tsv")
        if verb == "probe":
            plain = ("--layer", "last", "--pool", "mean", "--aggregate", "mean-logits")
            asked = (*asked, "--model", "linear", *plain, "--runs", self.folder / "runs")
        return self.command("classify", verb, *asked, "--replicates", 20, "--json", *more)


@pytest.fixture
def place(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, command, monkeypatch)


def other_people(study: Study) -> None:
    study.people["participant_id"] = [f"9{number:03d}" for number in range(len(study.people))]


def all_not_finite(study: Study) -> None:
    study.stored.pooled[:] = np.nan


def one_class_in_train(study: Study) -> None:
    study.people["study_group"] = HEALTHY


def shifted(study: Study) -> None:
    study.people["participant_id"] = np.roll(study.people["participant_id"], 1)


def all_equal(study: Study) -> None:
    study.stored.pooled[:] = 1.0


@pytest.mark.parametrize("verb", ["probe", "baselines"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_people, "of which 0 are among the 32 participants of the store; do the two belong together?"),
        (all_not_finite, "(not finite: 128)"),
        (one_class_in_train, "every class needs a participant in train; none for pre_diabetes_lifestyle_controlled"),
        (shifted, "the ids are shifted, or store and table belong to different data"),
        (all_equal, "all 128 volumes have the same embedding"),
    ],
)
def test_a_cohort_that_cannot_be_used_is_one_message(
    place: Place, verb: str, spoil: Callable[[Study], None], message: str
) -> None:
    study = make_study(32)
    spoil(study)
    place.fill(study)
    done = place.run(verb)
    assert (done.code, done.stdout) == (1, "")
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert not (place.folder / "runs").exists()


TASK = f"name: mine\nclasses: [early, late]\ngroups: {{{HEALTHY}: early, {INSULIN}: late}}\n"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("name: mine\nclasses: [early, late]\ngroups: {}\n", "mine.yaml: groups: the task maps nothing"),
        (TASK.replace("[early, late]", "[early]"), "classes: expected at least two different names"),
        (TASK + "folds: 3\n", "unknown key 'folds'"),
    ],
)
@pytest.mark.parametrize("verb", ["probe", "baselines"])
def test_a_task_that_cannot_be_asked_is_one_message(place: Place, verb: str, task: str, message: str) -> None:
    """The store is not even opened: there is none."""
    make_study(32).write(place.folder)
    (place.folder / "mine.yaml").write_text(task)
    done = place.run(verb, "--task", place.folder / "mine.yaml")
    assert (done.code, done.stdout) == (2, "")
    said, explained_at = done.stderr.splitlines()
    assert message in said
    page, anchor = explained_at.removeprefix("help: ").split("#")
    assert (Path(page).name, anchor) == ("troubleshooting.md", "usageerror")
    assert Path(page).is_file()


@pytest.mark.parametrize("task", ["age", "hba1c"])
def test_a_number_is_no_task(place: Place, task: str) -> None:
    done = place.run("probe", "--task", task)
    assert done.code == 2
    assert "see probes_of_nuisance of run.json" in done.stderr


def test_a_task_of_one_s_own_runs_and_its_run_is_evaluated_without_the_file(place: Place) -> None:
    place.fill(make_study(64, effect=2.0))
    path = place.folder / "mine.yaml"
    path.write_text(TASK)
    done = place.run("probe", "--task", path)
    assert done.code == 0, done.stderr
    record = done.json
    assert record["task"] == "mine"
    assert record["classes"] == ["early", "late"]
    assert record["task_definition"]["groups"] == {"early": [HEALTHY], "late": [INSULIN]}
    assert set(record["contrasts"]["val"]) == set(record["decision_curves"]["val"]) == {"late vs early"}
    assert "not asked: 32 participants, 128 volumes" in done.stderr
    path.unlink()
    looked = place.run("evaluate", "--run", record["path"], "--split", "test")
    assert looked.code == 0, looked.stderr
    assert "balanced_accuracy" in looked.json["metrics"]["participant"]["test"]
    assert "probabilities" in looked.json["decision_curves"]["test"]["late vs early"]


def test_rows_with_nan_are_left_out_and_said(place: Place) -> None:
    study = make_study(64, effect=2.0)
    study.stored.pooled[:3] = np.nan
    place.fill(study)
    done = place.run("probe")
    assert done.code == 0, done.stderr
    assert "not finite: 1 participants, 3 volumes" in done.stderr
    assert done.json["splits"]["train"]["volumes"] == 125


def test_a_constant_feature_is_said_and_changes_nothing_else(place: Place) -> None:
    study = make_study(64, effect=2.0)
    study.stored.pooled[..., 5] = 7.0
    place.fill(study)
    done = place.run("probe")
    assert done.code == 0, done.stderr
    assert done.json["features"]["constant"] == 1
    assert "1 of 6 features never vary in train: they say nothing" in done.stderr
    assert done.json["metrics"]["participant"]["val"]["macro_auroc"]["value"] > 0.7


def test_one_site_only_makes_the_site_baseline_absent_with_its_reason(place: Place) -> None:
    study = make_study(64, effect=2.0)
    ids = {old: f"4{number:03d}" for number, old in enumerate(study.people["participant_id"])}
    study.people = study.people.assign(participant_id=study.people["participant_id"].map(ids), clinical_site="UCSD")
    index = study.stored.index.assign(participant=study.stored.index["participant"].map(ids))
    study.stored = replace(study.stored, index=index)
    place.fill(study)
    for verb in ("probe", "baselines"):
        done = place.run(verb)
        assert done.code == 0, done.stderr
        assert "site" not in done.json["baselines"]
        reasons = {line["name"]: line["reason"] for line in done.json["baselines_missing"]}
        assert reasons["site"] == "everybody in train is of one site (UCSD)"
        assert "age+site" not in done.json["baselines"]


class TestBaselinesAlone:
    def test_are_judged_on_val_and_leave_no_run(self, place: Place) -> None:
        place.fill(make_study(64, effect=2.0))
        done = place.run("baselines")
        assert done.code == 0, done.stderr
        assert set(done.json["baselines"]) == {"dummy", "age", "site", "age+site"}
        assert set(done.json["differences_to_age_site"]) == set(done.json["baselines"]) - {"age+site"}
        assert done.json["split"] == "val"
        for measured in done.json["baselines"].values():
            assert measured["balanced_accuracy"]["low"] <= measured["balanced_accuracy"]["value"]
        assert "HbA1c (ceiling): absent: --measurements was not given" in done.stderr
        assert "SYNTHETIC PHANTOM" in done.stderr
        assert {path.name for path in place.folder.iterdir()} <= {"store", "participants.tsv", "cache"}

    def test_are_the_ones_that_stand_beside_a_probe(self, place: Place) -> None:
        place.fill(make_study(64, effect=2.0))
        alone, beside = place.run("baselines").json["baselines"], place.run("probe").json["baselines"]
        for name, measured in alone.items():
            assert beside[name]["val"] == measured


class TestMeasurementsAndPretraining:
    def write_measurements(self, study: Study, folder: Path) -> Path:
        lines = ["person_id,value_as_number,measurement_source_value"]
        for number, person in enumerate(study.people.itertuples()):
            hba1c = 5.0 + STUDY_GROUPS.index(person.study_group) + 0.01 * number
            lines += [
                f'{person.participant_id},{hba1c},"import_hba1c, HbA1c"',
                f"{person.participant_id},30,bmi_vsorres",
            ]
        (folder / "measurement.csv").write_text("\n".join(lines[:-2]))
        return folder / "measurement.csv"

    def test_a_probe_and_an_evaluation_with_both(self, place: Place) -> None:
        study = make_study(64, effect=2.0)
        place.fill(study)
        split = study.people.set_index("participant_id")["recommended_split"]
        seen = place.folder / "seen.txt"
        seen.write_text("\n".join([*split.index[split == "val"][:4], *split.index[split == "test"][:5]]))
        more = ("--measurements", self.write_measurements(study, place.folder), "--pretrain-participants", seen)
        done = place.run("probe", *more)
        assert done.code == 0, done.stderr
        record = done.json
        assert record["baselines"]["HbA1c (ceiling)"]["val"]["macro_auroc"]["value"] > 0.95
        assert [line["reason"] for line in record["baselines_missing"] if line["name"] == "BMI"]
        assert record["measurements"]["quantities"]["hba1c"]["participants"] == 63
        assert record["pretraining"]["participants"] == {"train": 0, "val": 4, "test": 5}
        assert record["pretraining"]["without"]["val"]["participants"] == 12
        assert "16 participants of val, 4 OF THEM SEEN IN PRETRAINING" in " ".join(done.stderr.split())
        assert "warning: the encoder has seen 4 of val; without them (12 left)" in done.stderr
        lines = {line["target"]: line for line in record["probes_of_nuisance"] if line["features"] != "as stored"}
        assert lines["hba1c"]["spearman"]["low"] > 0.3
        assert lines["hba1c"]["less_error_than_the_mean"]["value"] > 0
        assert record["class_weights"] == dict.fromkeys(STUDY_GROUPS, 1.0)
        looked = place.run("evaluate", "--run", record["path"], "--split", "test")
        said = " ".join(looked.stderr.split())
        assert "the encoder has seen 5 of test; give --pretrain-participants for the result" in said
        assert set(looked.json["pretraining"]["without"]) == {"val"}
        assert set(looked.json["baselines"]["HbA1c (ceiling)"]) == {"val"}
        looked = place.run("evaluate", "--run", record["path"], "--split", "test", *more)
        assert looked.code == 0, looked.stderr
        assert set(looked.json["pretraining"]["without"]) == {"val", "test"}
        assert set(looked.json["baselines"]["HbA1c (ceiling)"]) == {"val", "test"}
        assert "warning: the encoder has seen 5 of test; without them (11 left)" in looked.stderr
        assert not named_in(done.stderr + looked.stderr, study.people["participant_id"], place.folder)

    def test_without_the_options_the_record_says_so(self, place: Place) -> None:
        place.fill(make_study(32, effect=2.0))
        done = place.run("probe")
        assert done.code == 0, done.stderr
        assert done.json["measurements"] == {"given": False}
        assert done.json["pretraining"]["given"] is False
        assert "pretraining: --pretrain-participants was not given" in done.stderr


@pytest.mark.parametrize("name", ["tpu", "cuda"])
def test_a_device_that_is_not_there_is_said(place: Place, name: str) -> None:
    import torch

    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    place.fill(make_study(64))
    done = place.run("probe", "--device", name)
    assert done.code == 2
    assert ("--device: expected" in done.stderr) or ("not one of" in done.stderr)
    assert not (place.folder / "runs").exists()
