"""Without --checksums a survey reads headers alone, and says the sizes and labels that voxels say."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import make_file
from scan_files import as_folder, as_mha, as_nifti, as_nifti_gz, as_npy, as_npz, as_nrrd, as_tiff
from vendor_files import make_heyex_xml, make_vol

from extract.errors import FetchError
from extract.survey import facts
from extract.survey.options import SurveyOptions
from extract.survey.run import survey

VOXELS = np.random.default_rng(0).integers(0, 255, (6, 20, 24), dtype=np.uint8)
BIG = np.random.default_rng(0).integers(0, 255, (40, 100, 120), dtype=np.uint8)
FILES = {
    "a.npy": as_npy(VOXELS),
    "packed.npz": as_npz(age=np.array(70), oct=BIG, who=np.array("x"), grid=np.zeros((4, 4))),
    "stored.npz": as_npz(age=np.array(71.5), oct=BIG.astype(np.uint16), packed=False, dx=np.array([1])),
    "a.nii": as_nifti(VOXELS),
    "b.nii.gz": as_nifti_gz(VOXELS),
    "a.nrrd": as_nrrd(VOXELS),
    "b.nrrd": as_nrrd(VOXELS.astype(np.uint16), packed=True),
    "a.mha": as_mha(VOXELS),
    "a.vol": make_vol(VOXELS),
    "t1/a.tiff": as_tiff(VOXELS),
    "t2/big.tiff": as_tiff(BIG),
    "multi.dcm": make_file(BIG, PatientID="Doe^1", SeriesDescription="Mr Doe, left"),
    "xml/a.xml": make_heyex_xml([f"{n}_image.png" for n in range(6)]),
}


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    root = tmp_path / "bucket"
    files = dict(FILES)
    files |= {f"xml/{file.base}": file.data for file in as_folder(VOXELS)}
    for number, frame in enumerate(VOXELS):
        words = {"SeriesInstanceUID": "1.2.3", "InstanceNumber": number + 1}
        files[f"series/IM{number:04d}"] = make_file(frame[None], **words)
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def lines_of(bucket: Path, **more: Any) -> dict[str, dict[str, str]]:
    out = bucket.parent / "scans.csv"
    found = survey(SurveyOptions(bucket=str(bucket), out=out, layout="folder", **more))
    assert found["unreadable"] == []
    with out.open(newline="") as file:
        return {line["scan"]: line for line in csv.DictReader(file)}


def test_headers_say_what_voxels_say(bucket: Path) -> None:
    heads, whole = lines_of(bucket), lines_of(bucket, checksums=True)
    assert heads.keys() == whole.keys() == {*FILES, "series"}
    for scan, line in heads.items():
        assert {**line, "sha256": ""} == {**whole[scan], "sha256": ""}
        assert int(line["frames"]) in {6, 40}
    assert (heads["packed.npz"]["age"], heads["packed.npz"]["who"], heads["stored.npz"]["dx"]) == ("70", "x", "1")
    assert heads["series"]["frames"] == "6"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Macular Cube 512x128", "macular_cube_512x128"), ("OCT-A 3 x 3", "oct_a_3_x_3"), ("", ""), ("17", ""),
        ("Doe, left", ""), ("follow-up 20240131", ""), ("cube of 31.1.2024", ""), ("raster 2048", "raster_2048"),
        ("p-0012345 cube", ""), ("ä" * 9, ""),
        ("cube " * 12, ""),
    ],
)  # fmt: skip
def test_the_protocol_of_a_header_is_kept_as_a_word(text: str, kept: str, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    file = make_file(VOXELS, PatientID="0012345", PatientName="DOE^JANE", ProtocolName=text)
    (tmp_path / "bucket/a.dcm").write_bytes(file)
    assert lines_of(tmp_path / "bucket")["a.dcm"].get("protocol", "") == kept


def test_nothing_that_names_a_person_is_in_the_table_unless_asked_for(bucket: Path) -> None:
    line = lines_of(bucket)["multi.dcm"]
    assert not any("Doe" in cell for cell in line.values())
    asked = lines_of(bucket, identifiers=True)["multi.dcm"]
    assert (asked["patient_id"], asked["series_description"]) == ("Doe^1", "Mr Doe, left")
    assert asked["participant"] == line["participant"]
    assert asked.keys() - line.keys() == {
        "patient_id", "patient_name", "birth_date", "study_date", "accession_number", "series_description"
    }  # fmt: skip


def test_an_archive_with_two_scans_is_an_error_line_that_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/a.npz").write_bytes(as_npz(a=BIG, b=BIG))
    found = survey(SurveyOptions(bucket=str(tmp_path / "b"), out=tmp_path / "s.csv", layout="folder"))
    assert "--array" in found["unreadable"][0]["why"]
    assert (
        survey(SurveyOptions(bucket=str(tmp_path / "b"), out=tmp_path / "s.csv", layout="folder", array="b"))["frames"]
        == 40
    )


def test_what_could_not_be_fetched_and_what_is_asked_anew_is_looked_at_again(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_bytes, asked = facts.first_bytes, list[str]()

    def fail(source: Any, info: Any) -> bytes:
        asked.append(info.key)
        if info.key == "a.npy":
            raise FetchError("x: the line is down")
        if info.key == "xml/a.xml":
            raise KeyboardInterrupt
        return first_bytes(source, info)

    monkeypatch.setattr(facts, "first_bytes", fail)
    with pytest.raises(KeyboardInterrupt):
        lines_of(bucket)
    monkeypatch.setattr(facts, "first_bytes", lambda source, info: asked.append(info.key) or first_bytes(source, info))
    unfinished = bucket.parent / ".scans.csv.unfinished"
    kept = unfinished.read_text()
    asked.clear()
    assert lines_of(bucket)["a.npy"]["frames"] == "6"
    assert "a.npy" in asked
    assert "a.nii" not in asked
    unfinished.write_text(kept)
    turned = lines_of(bucket, axes=("rows", "columns", "frames"))
    assert (turned["a.npy"]["frames"], turned["a.nii"]["frames"]) == ("24", "24")
