"""A survey over S3: one walk of the listing, one small read a file, and on from where it was cut off."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from dicom_files import make_file
from moto.server import ThreadedMotoServer
from scan_files import as_npz, as_picture, as_tiff

from extract.bucket.open import open_source
from extract.survey import run as survey_run
from extract.survey.options import SurveyOptions
from extract.survey.run import survey

VOXELS = np.random.default_rng(0).integers(0, 255, (40, 100, 120), dtype=np.uint8)


@pytest.fixture
def endpoint(s3_credentials: Callable[[str, str], None]) -> Iterator[str]:
    s3_credentials("testkey", "verysecretverysecret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def fill(endpoint: str, files: dict[str, bytes]) -> None:
    keys = {"aws_access_key_id": "other", "aws_secret_access_key": "other"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="scans")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: client.put_object(Bucket="scans", Key=one[0], Body=one[1]), files.items()))


def test_a_survey_walks_once_and_reads_heads(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, volume = as_picture(VOXELS[0, :20, :24], "PNG"), make_file(VOXELS, PatientID="1")
    pictures = {f"P{number // 20}/{number % 20}.png": picture for number in range(1100)}
    series = {
        f"series/IM{number:02d}": make_file(frame[None], SeriesInstanceUID="1.2", InstanceNumber=number + 1)
        for number, frame in enumerate(VOXELS[:20])
    }
    large = {f"multi/{number}.dcm": volume for number in range(20)}
    others = {"a.npz": as_npz(packed=False, oct=VOXELS, age=np.array(70)), "t/a.tiff": as_tiff(VOXELS)}
    fill(endpoint, pictures | series | large | others)
    sources = list[Any]()
    monkeypatch.setattr(
        survey_run, "open_source", lambda *args, **more: sources.append(open_source(*args, **more)) or sources[-1]
    )

    def run() -> dict[str, Any]:
        return survey(SurveyOptions(bucket="s3://scans", endpoint_url=endpoint, out=tmp_path / "scans.csv"))

    found = run()
    assert (found["layout"], found["volumes"], found["frames"]) == ("folder", 55 + 1 + 20 + 2, 1100 + 20 + 20 * 40 + 80)
    counts = sources[0].counts
    assert counts.list_requests == 2, "1,142 objects, 1,000 a page"
    heads = 55 + 20 + 20 + 1 + 1  # a picture of each folder, every DICOM file, the npz, the TIFF
    assert (
        counts.get_requests <= heads + 2 + 2 + 1
    )  # tables of AI-READI; middle and end of the npz; the TIFF as a whole
    assert counts.bytes < sum(map(len, large.values())) / 4 + sum(map(len, others.values()))

    look, looked = survey_run.look_at, list[str]()

    def stop(source: Any, scan: Any, *rest: Any, **more: Any) -> Any:
        looked.append(scan.name)
        if len(looked) == 40:
            raise KeyboardInterrupt
        return look(source, scan, *rest, **more)

    monkeypatch.setattr(survey_run, "AT_ONCE", 1)
    monkeypatch.setattr(survey_run, "look_at", stop)
    with pytest.raises(KeyboardInterrupt):
        run()
    again = run()
    assert len(looked) <= 40 + (78 - 39) + 2, "what was in flight is looked at again"
    assert again == found
