"""Leaving a place out: its training rows are not used, and a head that knows only the place is found out."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from classify_study import Study, make_study

from classify.cohort.tasks import STUDY_GROUPS
from classify.options import ProbeOptions
from classify.probe import Probed, probe
from classify.run.summary import robustness_lines

NOW = datetime(2026, 11, 22, 15, 3, 1, tzinfo=UTC)


def probed(study: Study, folder: Path, **options: Any) -> Probed:
    folder.mkdir(exist_ok=True)
    asked = {"replicates": 50, "runs": folder / "runs", "participants": study.write(folder)} | options
    return probe(
        ProbeOptions(store="store", model="linear", robustness=True, **asked), now=NOW, read=lambda *_: study.stored
    )


def line_of(done: Probed, by: str, value: str) -> dict[str, Any]:
    assert done.record.fitted.robustness is not None
    return next(line for line in done.record.fitted.robustness[by] if line["held_out"] == value)


def rows_of_site(study: Study, site: str, split: str) -> np.ndarray:
    people = study.people.set_index("participant_id").loc[study.stored.index["participant"]]
    return ((people["clinical_site"] == site) & (people["recommended_split"] == split)).to_numpy()


def test_every_site_and_device_is_left_out_once(study: Study, tmp_path: Path) -> None:
    done = probed(study, tmp_path)
    assert done.record.fitted.robustness is not None
    assert [line["held_out"] for line in done.record.fitted.robustness["device"]] == [
        "heidelberg_spectralis", "topcon_triton",
    ]  # fmt: skip
    sites = done.record.fitted.robustness["site"]
    assert [line["held_out"] for line in sites] == ["UAB", "UCSD", "UW"]
    assert sum(line["participants"] for line in sites) == 16
    assert len(robustness_lines(done.record.fitted.robustness)) == 5


def test_training_rows_of_the_left_out_site_are_not_used(tmp_path: Path) -> None:
    before = probed(make_study(192, effect=2.0), tmp_path / "before")
    study = make_study(192, effect=2.0)
    rows = rows_of_site(study, "UW", "train")
    study.stored.pooled[rows] += np.random.default_rng(0).normal(0, 1, study.stored.pooled[rows].shape).astype("f4")
    after = probed(study, tmp_path / "after")
    for name in ("head", "standardiser"):  # the run's own model did change
        one, two = (np.load(done.folder / "model" / f"{name}.npz") for done in (before, after))
        assert any((one[array] != two[array]).any() for array in one.files)
    assert before.record.fitted.parameters == after.record.fitted.parameters  # the grid chose the same strength
    assert line_of(before, "site", "UW")["without"] == line_of(after, "site", "UW")["without"]
    assert line_of(before, "site", "UW")["with"] != line_of(after, "site", "UW")["with"]


def test_an_effect_that_points_the_other_way_at_one_site_is_found_out(tmp_path: Path) -> None:
    study = make_study(192, effect=2.0)
    people = study.people.set_index("participant_id").loc[study.stored.index["participant"]]
    away = (people["clinical_site"] == "UAB").to_numpy()
    step = people["study_group"].map(STUDY_GROUPS.index).to_numpy(np.float32)
    study.stored.pooled[away, ..., 0] -= 4.0 * step[away, None, None]
    done = probed(study, tmp_path)
    assert line_of(done, "site", "UAB")["without"]["macro_auroc"].high < 0.5
    assert done.record.judged.metrics["participant"]["val"]["macro_auroc"].value > 0.5


def test_a_class_that_only_one_site_has_is_absent(tmp_path: Path) -> None:
    study = make_study(64, effect=2.0)
    alone = study.people["study_group"] == STUDY_GROUPS[3]
    study.people.loc[~alone & (study.people["clinical_site"] == "UW"), "clinical_site"] = "UAB"
    study.people.loc[alone, "clinical_site"] = "UW"
    line = line_of(probed(study, tmp_path), "site", "UW")
    assert line["absent"] == f"without UW, nobody in train is {STUDY_GROUPS[3]}"
    assert line["participants"] == 4


def gathered_at_sites(participants: int = 240) -> Study:
    """Classes gather at sites (80 percent), and the embedding tells the site, and nothing of the disease."""
    study = make_study(participants, effect=0.0)
    rng = np.random.default_rng(5)
    sites = ("UW", "UCSD", "UAB")
    label = study.people["study_group"].map(STUDY_GROUPS.index).to_numpy()
    own = np.where(rng.random(participants) < 0.8, label * 3 // 4, rng.integers(0, 3, participants))
    names = [f"{'147'[site]}{number:03d}" for number, site in enumerate(own)]
    place = dict(zip(study.people["participant_id"], names, strict=True))
    study.people["participant_id"] = names
    study.people["clinical_site"] = [sites[site] for site in own]
    index = study.stored.index
    index["participant"] = index["participant"].map(place)
    index["site"] = [sites["147".index(name[0])] for name in index["participant"]]
    study.stored.pooled[:, 1, 0, 0] += 2.0 * np.array(["147".index(name[0]) for name in index["participant"]])
    return study


def test_a_site_that_stands_in_for_the_label_is_found_out(tmp_path: Path) -> None:
    done = probed(gathered_at_sites(), tmp_path, task="medicated-vs-not", replicates=300)
    overall = done.record.judged.metrics["participant"]["val"]["macro_auroc"]
    assert overall.low > 0.5
    assert done.record.fitted.robustness is not None
    away = [line["without"]["macro_auroc"] for line in done.record.fitted.robustness["site"]]
    values = [measured.value for measured in away if measured.value is not None]
    assert len(values) >= 2
    assert np.mean(values) < overall.value - 0.15
    told = [line for line in done.record.fitted.probes_of_nuisance if line["target"] == "site"]
    assert max(line["value"] for line in told) > 0.8
