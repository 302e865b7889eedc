"""Measurements and the participants of pretraining stand in a fine-tuned run as in a probe."""

from pathlib import Path

import pytest
from finetune_study import SHORT, run, table

from classify.errors import CohortError

ONE = SHORT.model_copy(update={"batch_size": 8})


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_measurements(bucket: Path, out: Path) -> Path:
    """HbA1c rises with the study group, as it does in people; nobody's BMI is known but two."""
    groups = sorted(set(table(bucket)["study_group"]))
    lines = ["measurement_id,person_id,measurement_concept_id,value_as_number,measurement_source_value"]
    for number, person in enumerate(table(bucket).itertuples()):
        value = 5 + groups.index(person.study_group)
        lines.append(f'{number},{person.participant_id},0,{value},"import_hba1c, HbA1c (%)"')
        if number < 2:
            lines.append(f'{100 + number},{person.participant_id},0,27.5,"bmi_vsorres, BMI"')
    out.write_text("\n".join(lines) + "\n")
    return out


def test_measurements_stand_beside_as_ceiling_and_baseline(phantom: Path, tmp_path: Path) -> None:
    plain = run(phantom, tmp_path / "plain", config=ONE, stages=("head",)).record
    path = write_measurements(phantom, tmp_path / "measurement.csv")
    record = run(phantom, tmp_path / "runs", config=ONE, stages=("head",), measurements=path).record
    assert set(record.judged.baselines) - set(plain.judged.baselines) == {"HbA1c (ceiling)"}
    assert (plain.cohort.measurements, record.cohort.measurements["given"]) == ({"given": False}, True)
    assert {"BMI", "HbA1c (ceiling)"} <= {line["name"] for line in plain.rivals.baselines_missing}
    assert {line["name"] for line in record.rivals.baselines_missing} >= {"random-initialised twin", "BMI"}
    assert any(step["step"] == "bmi missing" for step in record.cohort.flow)
    assert record.judged.metrics == plain.judged.metrics  # nothing is fitted on them


def test_participants_of_pretraining_are_flagged_and_left_out_once(phantom: Path, tmp_path: Path) -> None:
    people = table(phantom)
    of_val = people.loc[people["recommended_split"] == "val", "participant_id"].tolist()
    of_train = people.loc[people["recommended_split"] == "train", "participant_id"].tolist()
    path = tmp_path / "seen.txt"
    path.write_text("\n".join([of_val[0], *of_train[:2], "9999"]))
    record = run(phantom, tmp_path / "runs", config=ONE, stages=("head",), pretrain_participants=path).record
    assert record.cohort.pretraining["given"]
    assert (record.cohort.pretraining["listed"], record.cohort.pretraining["participants"]) == (
        4,
        {"train": 2, "val": 1, "test": 0},
    )
    assert record.cohort.pretraining["without"]["val"]["participants"] == len(of_val) - 1
    noted = [step["step"] for step in record.cohort.flow if step["kind"] == "note"]
    assert {"seen in pretraining: train", "seen in pretraining: val"} <= set(noted)


def test_tables_that_cannot_be_read_stop_the_run_before_anything_is_read(phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="--pretrain-participants"):
        run(phantom, tmp_path / "runs", pretrain_participants=tmp_path / "nothing.txt")
    assert not (tmp_path / "runs").exists()
