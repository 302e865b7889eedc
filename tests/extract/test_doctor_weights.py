"""The doctor on checkpoints: figures of the fixture, a verdict in plain words, and nothing of a hostile file runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_encoders import small_encoder_of

from extract.doctor.options import DoctorOptions
from extract.doctor.report import Report, Status
from extract.doctor.run import examine
from extract.doctor.weights import (
    BARELY_BIASED,
    BARELY_MOVED,
    examine_checkpoint,
    examine_preset,
    examine_random,
    judge_training,
    relative_distance,
)
from extract.encoder.families import FAMILIES
from extract.encoder.random_init import random_encoder
from extract.encoder_options import Preprocessing

FIGURES = ("epoch", "loss", "scheduler_last_epoch", "rel_l2_context_vs_target", "max_abs_linear_bias", "pos_embed_std")
SIZE = (16, 64, 64)


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Work in an empty folder, where the hostile files would leave a file named PWNED."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(tmp_path.rglob("PWNED")) == [], "code from a checkpoint was run"


def silent(_: str) -> None:
    """Stand in for the terminal."""


def status_of(report: Report, name: str) -> Status:
    (check,) = (check for check in report.checks if check.name == name)
    return check.status


def message_of(report: Report, name: str) -> str:
    (check,) = (check for check in report.checks if check.name == name)
    return check.message


@pytest.mark.parametrize(("name", "expected"), [("barely_trained.pt", Status.WARN), ("moved.pt", Status.OK)])
def test_tells_a_trained_checkpoint_from_one_that_is_not(reference: Path, name: str, expected: Status) -> None:
    folder = reference / "vjepa3d_dose"
    info = json.loads((folder / "info.json").read_text())[name]
    report, _ = examine_checkpoint(folder / name, heads=3, image_size=None, which="context")
    assert status_of(report, "training") == expected
    assert report.status == expected
    for figure in FIGURES:
        assert report.figures[figure] == pytest.approx(info[figure], rel=1e-4), figure


def test_the_warning_says_why_in_plain_words(reference: Path) -> None:
    path = reference / "vjepa3d_dose" / "barely_trained.pt"
    report, _ = examine_checkpoint(path, heads=3, image_size=None, which="context")
    words = message_of(report, "training")
    assert "trained barely, or not at all" in words
    assert "empty validation mask" in words
    assert "0.21%" in words


def test_the_target_encoder_was_never_updated(reference: Path) -> None:
    path = reference / "vjepa3d_dose" / "moved.pt"
    report, _ = examine_checkpoint(path, heads=3, image_size=None, which="target")
    assert status_of(report, "training") == Status.WARN
    assert report.figures["max_abs_linear_bias"] == 0
    assert report.figures["rel_l2_context_vs_target"] == pytest.approx(0.3257814086959789, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "which", "other"), [("bare_encoder.pt", "context", "target"), ("target_only.pt", "target", "context")]
)
def test_one_encoder_alone_has_no_distance(reference: Path, name: str, which: Any, other: str) -> None:
    path = reference / "vjepa3d_nested" / name
    report, _ = examine_checkpoint(path, heads=3, image_size=SIZE, which=which)
    assert "rel_l2_context_vs_target" not in report.figures
    assert f"holds no {other} encoder" in report.absent["rel_l2_context_vs_target"]
    assert "distance context-target not known" in message_of(report, "training")
    assert report.absent["loss"] == "the file does not say"


def test_figures_are_plain_json(reference: Path) -> None:
    path = reference / "vjepa3d_nested" / "trainer_full.pt"
    report, encoder = examine_checkpoint(path, heads=None, image_size=None, which="context")
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["figures"]["weights_sha256"] == encoder.weights_sha256
    assert again["figures"]["parameters"] == encoder.architecture.parameter_count
    assert again["figures"]["architecture"]["image_size"] == [*SIZE]


def test_the_public_family_is_examined_too(reference: Path) -> None:
    report, _ = examine_checkpoint(reference / "vjepa2_hf", heads=None, image_size=None, which="context")
    assert report.figures["family"] == "vjepa2"
    assert report.absent["pos_embed_std"] == "this architecture has no such tensor"


def test_a_loss_that_is_no_number_is_absent(tmp_path: Path) -> None:
    weights = random_encoder("random:tiny").module.state_dict()
    state = {f"{prefix}.{name}": tensor for name, tensor in weights.items() for prefix in ("context_encoder",)}
    path = tmp_path / "diverged.pt"
    torch.save({"model_state_dict": state, "loss": float("nan"), "epoch": 3}, path)
    report, _ = examine_checkpoint(path, heads=3, image_size=(32, 96, 96), which="context")
    assert report.absent["loss"] == "the number is nan"
    assert report.figures["epoch"] == 3
    json.dumps(report.to_dict(), allow_nan=False)


def test_hostile_code_in_a_config_is_reported_and_not_run(reference: Path) -> None:
    path = reference / "vjepa3d_nested" / "malicious_in_config.pt"
    report, _ = examine_checkpoint(path, heads=None, image_size=None, which="context")
    assert status_of(report, "foreign code") == Status.WARN
    assert "nothing of it was run" in message_of(report, "foreign code")
    assert report.figures["foreign_globals"]


@pytest.mark.parametrize("name", ["malicious.pt", "malicious_legacy.pkl", "truncated.pt", "garbage.pt", "empty.pt"])
def test_a_refused_file_is_one_failed_check_and_the_others_go_on(reference: Path, name: str) -> None:
    options = DoctorOptions(checkpoint=reference / "vjepa3d_nested" / name, heads=3, image_size=SIZE, device="cpu")
    report = examine(options, silent)
    assert report.named(Status.FAIL) == ["encoder"]
    assert name in message_of(report, "encoder")
    assert {"versions", "decoders", "device"} <= {*report.named(Status.OK)}
    assert "parity" not in {check.name for check in report.checks}


def test_a_random_encoder_is_called_a_baseline() -> None:
    report, encoder = examine_random("random:tiny,seed=2", None)
    assert status_of(report, "training") == Status.WARN
    assert "baseline" in message_of(report, "training")
    assert report.figures["weights_sha256"] == encoder.weights_sha256


def test_the_distance_of_an_encoder_scaled_by_a_tenth() -> None:
    start, moved = random_encoder("random:tiny"), random_encoder("random:tiny")
    for parameter in moved.module.parameters():
        parameter.mul_(1.1)
    assert relative_distance(moved, start) == pytest.approx(0.1, rel=1e-5)
    assert relative_distance(start, start) == 0
    assert relative_distance(start, random_encoder("random:tiny", (16, 96, 96))) is None


@pytest.mark.parametrize(
    ("distance", "bias", "expected"),
    [
        (BARELY_MOVED, BARELY_BIASED, Status.OK),
        (BARELY_MOVED * 0.99, BARELY_BIASED, Status.WARN),
        (1.4, BARELY_BIASED * 0.99, Status.WARN),
        (None, BARELY_BIASED, Status.OK),
        (None, 0.0, Status.WARN),
        (None, None, Status.WARN),
    ],
)
def test_the_verdict_follows_distance_and_biases(distance: float | None, bias: float | None, expected: Status) -> None:
    assert judge_training({}, "context", distance, bias).status == expected


def test_a_loss_of_zero_alone_is_no_reason_to_warn() -> None:
    assert judge_training({"epoch": 149, "loss": 0.0}, "context", 0.3, 0.03).status == Status.OK


def test_positions_are_measured_as_the_fixture_does(reference: Path) -> None:
    path = reference / "vjepa3d_dose" / "moved.pt"
    report, encoder = examine_checkpoint(path, heads=3, image_size=None, which="context")
    table = encoder.module.state_dict()["pos_embed"].numpy().astype(np.float64)
    assert report.figures["pos_embed_std"] == pytest.approx(table.std(ddof=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_says_which_preset_is_taken_and_whether_it_is_the_familys_own(family: str) -> None:
    encoder, own = small_encoder_of(family), FAMILIES[family].preset
    report, preset = examine_preset(encoder, Preprocessing())
    assert (preset.name, status_of(report, "preset")) == (own, Status.OK)
    assert message_of(report, "preset") == f"preset {own}, which is the encoder's own"
    other = "pretrain" if own != "pretrain" else "octcube"
    report, preset = examine_preset(encoder, Preprocessing(preset=other))
    assert (preset.name, status_of(report, "preset")) == (other, Status.WARN)
    assert f"{family} goes with {own}" in message_of(report, "preset")
    assert report.figures["preset"]["name"] == other
