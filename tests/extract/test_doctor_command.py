"""extract-embeddings doctor as a user types it: exit codes, JSON on stdout, the table on stderr."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Command
from dicom_files import layered_volume, make_file
from rclone_server import rclone_s3


def test_a_barely_trained_checkpoint_warns_and_exits_with_0(reference: Path, command: Command) -> None:
    path = reference / "vjepa3d_dose" / "barely_trained.pt"
    done = command("extract-embeddings", "doctor", "--checkpoint", path, "--heads", 3, "--device", "cpu", "--json")
    assert done.code == 0
    assert done.json["verdict"] == "warn"
    assert {check["status"] for check in done.json["checks"]} == {"ok", "warn"}
    assert done.json["figures"]["scheduler_last_epoch"] == 16
    assert done.stderr.splitlines()[-1].startswith("verdict: warn")


@pytest.mark.parametrize("name", ["malicious.pt", "malicious_in_config.pt", "malicious_legacy.pkl"])
def test_hostile_files_leave_no_trace(
    reference: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = reference / "vjepa3d_nested" / name
    done = command("extract-embeddings", "doctor", "--checkpoint", path, "--device", "cpu", "--json")
    assert done.code == (0 if name == "malicious_in_config.pt" else 1)
    assert [*tmp_path.rglob("PWNED")] == []


def test_a_failed_check_exits_with_1(command: Command, tmp_path: Path) -> None:
    done = command("extract-embeddings", "doctor", "--bucket", tmp_path / "none", "--device", "cpu", "--json")
    assert done.code == 1
    assert [check["name"] for check in done.json["checks"] if check["status"] == "fail"] == ["bucket"]
    assert "verdict: fail" in done.stderr


def test_wrong_usage_exits_with_2(command: Command) -> None:
    done = command("extract-embeddings", "doctor", "--which", "both")
    assert done.code == 2
    assert done.stdout == ""


@pytest.mark.s3
def test_a_bucket_and_a_store_behind_s3(
    command: Command, tmp_path: Path, s3_credentials: Callable[[str, str], None]
) -> None:
    key = "retinal_oct/structural_oct/heidelberg_spectralis/1001/1001_spectralis_ppol_mac_hr_oct_l_1.2.3.dcm"
    volume = tmp_path / "buckets" / "scanners" / key
    volume.parent.mkdir(parents=True)
    volume.write_bytes(make_file(layered_volume()))
    before = sorted((tmp_path / "buckets").rglob("*"))
    with rclone_s3(tmp_path / "buckets") as (endpoint, access_key, secret_key):
        s3_credentials(access_key, secret_key)
        done = command(
            *("extract-embeddings", "doctor", "--encoder", "random:tiny", "--device", "cpu", "--json"),
            *("--bucket", "scanners", "--endpoint-url", endpoint, "--store", "s3://scanners/store", "--volumes", 2),
        )
    found = {check["name"]: check["status"] for check in done.json["checks"]}
    assert (done.code, found["bucket"], found["store"]) == (0, "ok", "ok")
    assert done.json["figures"]["bytes_per_second_per_stream"] > 0
    assert access_key not in done.stdout + done.stderr
    assert secret_key not in done.stdout + done.stderr
    assert [path for path in sorted((tmp_path / "buckets").rglob("*")) if path.is_file()] == [
        path for path in before if path.is_file()
    ]
