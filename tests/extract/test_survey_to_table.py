"""What survey writes, --scans reads: the same volumes of the same objects, under the same keys."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import make_file
from PIL import Image
from scan_files import as_mha, as_nifti, as_npy, as_npz, as_nrrd, as_tiff
from vendor_files import make_e2e, make_heyex_xml

from classify.cohort.labels import LabelSource, read_labels
from classify.cohort.questions import Question
from embeddings_store.schema import VolumeRef, volume_id
from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.errors import BucketError, FetchError
from extract.layouts.options import LayoutOptions
from extract.survey.options import SurveyOptions
from extract.survey.run import survey

VOXELS = np.random.default_rng(0).integers(0, 255, (6, 20, 24), dtype=np.uint8)
PEOPLE = r"(?:^|/)(?P<participant>P\d+)(?:_(?P<eye>OD|OS))?"


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 24), dtype=np.uint8)).save(path)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def two_eyes(root: Path) -> None:
    for number in range(6):
        for eye in ("OD", "OS"):
            picture(root / f"P17_{eye}_{number}.png", number)


def two_eyes_and_a_fundus_picture(root: Path) -> None:
    two_eyes(root / "visit 1")
    picture(root / "visit 1/P18_OD_fundus.png", 9)
    picture(root / "visit 1/legend.png", 9)


def one_eye_and_a_legend(root: Path) -> None:
    for number in range(3):
        picture(root / f"P17_OD_{number}.png", number)
        picture(root / f"P18/{number}.png", number)
    picture(root / "legend.png", 9)
    picture(root / "P18/x/1.png", 0)


def folders(root: Path) -> None:
    for number in range(3):
        picture(root / f"P17_OD/{number}.png", number)
        picture(root / f"P17_OS/{number}.png", number)


def one_flat_volume(root: Path) -> None:
    for number in range(3):
        picture(root / f"P17_{number}.png", number)


def single_files(root: Path) -> None:
    write(root / "P1_OD/a.npy", as_npy(VOXELS))
    write(root / "P1_OD/b.npz", as_npz(oct=VOXELS))
    write(root / "P1_OD/c.nii", as_nifti(VOXELS))
    write(root / "P1_OD/d.nrrd", as_nrrd(VOXELS))
    write(root / "P2_OD/e.mhd", as_mha(VOXELS, ElementDataFile="e.raw"))
    write(root / "P2_OD/e.raw", VOXELS.tobytes())
    words = VOXELS.astype(np.uint16) << 8
    write(root / "P3_both.e2e", make_e2e([(b"R", words), (b"L", words)]))


def multi_frame_dicom(root: Path) -> None:
    write(root / "P1/a.dcm", make_file(VOXELS, PatientID="1"))
    write(root / "P1/b.dcm", make_file(VOXELS[::-1].copy(), PatientID="1"))


def two_series(root: Path, suffix: str = ".dcm") -> None:
    for name, voxels in (("a", VOXELS), ("b", VOXELS[:4])):
        for number, frame in enumerate(voxels):
            words = {"SeriesInstanceUID": f"1.2.{ord(name)}", "InstanceNumber": number + 1, "PatientID": name}
            write(root / f"{name}{number}{suffix}", make_file(frame[None], **words))


def two_series_without_suffix(root: Path) -> None:
    two_series(root / "IM", suffix="")
    write(root / "DICOMDIR", make_file(VOXELS[:1]))


def multi_frame_and_series_of_one_person(root: Path) -> None:
    write(root / "P17_OD_1.dcm", make_file(VOXELS))
    write(root / "P17_OD_2.dcm", make_file(VOXELS[::-1].copy()))
    for number, frame in enumerate(VOXELS):
        words = {"SeriesInstanceUID": "1.2.3", "InstanceNumber": number + 1}
        write(root / f"P18_OS_{number}.dcm", make_file(frame[None], **words))


def heyex_exports(root: Path) -> None:
    for eye in "RL":
        export = make_heyex_xml([f"{eye}{n}.png" for n in range(3)], eye=eye).decode()
        head, _, rest = export.partition("<Series>")
        series = rest.partition("</Series>")[0]
        if eye == "R":
            first = series
    write(root / "P1/a.xml", make_heyex_xml(["x1.png", "x2.png"]))
    write(
        root / "P2/both.xml",
        f"{head}<Series>{first}</Series><Series>{series}</Series></Study></Patient></BODY></HEDX>".encode(),
    )
    write(root / "P2/settings.xml", b"<settings/>")
    for name in ("P1/x1", "P1/x2", "P1/slo", *(f"P2/{eye}{n}" for eye in "RL" for n in range(3))):
        picture(root / f"{name}.png", len(name))


def tiffs_of_many_pages(root: Path) -> None:
    for eye in "ab":
        write(root / f"P17_OD_{eye}.tif", as_tiff(VOXELS))
        write(root / f"P18/{eye}.tif", as_tiff(VOXELS[:1]))


def two_series_in_a_folder(root: Path) -> None:
    two_series(root / "P1")
    picture(root / "P1/x1.png", 0)
    picture(root / "P1/x2.png", 0)


def refs_of(root: Path, layout: LayoutOptions) -> dict[str, tuple[Any, ...]]:
    source = FolderSource(root)
    source.layout = layout
    return {key: told(scan.ref) for key, scan in list_volumes(source).scans.items()}


def fill(table: Path) -> str:
    """Fill in a participant where the survey knows none, as a person does."""
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0])
    writer.writeheader()
    writer.writerows(line | {"participant": line["participant"] or "x"} for line in lines)
    return text.getvalue()


def told(ref: VolumeRef) -> tuple[Any, ...]:
    members = tuple(info.key for info in ref.members)
    return members, ref.size, ref.etag, ref.participant or "x", ref.eye, ref.device, ref.protocol, ref.reading.volume


@pytest.mark.parametrize(
    ("make", "pattern", "count"),
    [
        (two_eyes, PEOPLE, 2),
        (two_eyes_and_a_fundus_picture, PEOPLE, 3),
        (one_eye_and_a_legend, PEOPLE, 3),
        (folders, PEOPLE, 2),
        (one_flat_volume, PEOPLE, 1),
        (single_files, PEOPLE, 7),
        (multi_frame_dicom, None, 2),
        (two_series, None, 2),
        (two_series_without_suffix, None, 2),
        (multi_frame_and_series_of_one_person, PEOPLE, 3),
        (heyex_exports, PEOPLE, 3),
        (tiffs_of_many_pages, PEOPLE, 3),
        (two_series_in_a_folder, None, 3),
    ],
)
def test_the_table_of_a_survey_finds_the_same_volumes(
    make: Any, pattern: str | None, count: int, tmp_path: Path
) -> None:
    root, out, secret = tmp_path / "bucket", tmp_path / "scans.csv", tmp_path / "secret"
    root.mkdir()
    make(root)
    layout = LayoutOptions(pattern=pattern) if pattern else LayoutOptions(layout="folder", pseudonyms=secret)
    survey(
        SurveyOptions(
            bucket=str(root),
            out=out,
            pattern=pattern,
            layout="auto" if pattern else "folder",
            pseudonyms=None if pattern else secret,
        )
    )
    out.write_text(fill(out))
    before, after = refs_of(root, layout), refs_of(root, LayoutOptions(scans=out))
    assert len(before) == count
    assert after == before
    read = survey(SurveyOptions(bucket=str(root), out=tmp_path / "again.csv", scans=out, checksums=True))
    assert (read["volumes"], read["unreadable"]) == (count, [])
    assert refs_of(root, LayoutOptions(scans=tmp_path / "again.csv")) == before


def test_bars_keep_the_key_of_their_folder_where_one_volume_lies_there(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / f"b/x/{number}.png", number)
    table = tmp_path / "scans.csv"
    table.write_text("file,participant\nx/0.png|x/1.png,1\n")
    assert list(refs_of(tmp_path / "b", LayoutOptions(scans=table))) == ["x"]
    table.write_text("file,participant\nx/0.png|x/1.png,1\nx/2.png|x/3.png,2\n")
    assert list(refs_of(tmp_path / "b", LayoutOptions(scans=table))) == ["x/0.png", "x/2.png"]


def test_labels_of_such_lines_belong_to_the_same_volumes(tmp_path: Path) -> None:
    two_eyes(tmp_path / "b")
    two_eyes(tmp_path / "b/x")
    survey(SurveyOptions(bucket=str(tmp_path / "b"), out=tmp_path / "scans.csv", pattern=PEOPLE))
    text = (tmp_path / "scans.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text(
        "\n".join([f"amd,{text[0]}", *(f"{n % 2},{line}" for n, line in enumerate(text[1:]))])
    )
    labels = read_labels(
        LabelSource(None, tmp_path / "labels.csv", everybody="test"), Question(name="amd", where="x", target="amd")
    )
    keys = refs_of(tmp_path / "b", LayoutOptions(scans=tmp_path / "scans.csv"))
    assert set(labels.lines["volume"]) == {volume_id(key) for key in keys}


def test_a_volume_that_no_table_can_name_says_so(tmp_path: Path) -> None:
    for name in ("P1|a", "P1|b", "P2|a", "P2|b"):
        picture(tmp_path / f"b/{name}.png", len(name))
    survey(SurveyOptions(bucket=str(tmp_path / "b"), out=tmp_path / "scans.csv", pattern=PEOPLE))
    lines = (tmp_path / "scans.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in lines[1:]] == [
        "rename its files: --scans cannot list names with bars"
    ] * 2


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a bucket's server refuse one object."""
    whole, part = FolderSource.fetch, FolderSource.fetch_range

    def fetch(source: FolderSource, wanted: Any) -> Any:
        if wanted.key == name:
            raise FetchError("v: 403 Forbidden")
        return whole(source, wanted)

    def fetch_range(source: FolderSource, wanted: Any, *place: int) -> Any:
        if wanted.key == name:
            raise FetchError("v: 403 Forbidden")
        return part(source, wanted, *place)

    monkeypatch.setattr(FolderSource, "fetch", fetch)
    monkeypatch.setattr(FolderSource, "fetch_range", fetch_range)


def test_pictures_of_an_export_that_cannot_be_had_make_no_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heyex_exports(tmp_path)
    layout = LayoutOptions(pattern=PEOPLE)
    assert sorted(refs_of(tmp_path, layout)) == ["P1/a.xml", "P2/both.xml#1", "P2/both.xml#2"]
    refuse(monkeypatch, "P2/both.xml")
    assert sorted(refs_of(tmp_path, layout)) == ["P1/a.xml", "P2/both.xml"]  # its row will be the error's


def test_a_series_of_which_one_header_cannot_be_had_is_not_made_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_series(tmp_path / "P1")
    refuse(monkeypatch, "P1/a2.dcm")
    with pytest.raises(BucketError, match=r"header of P1/a2\.dcm cannot be read.*series: v: 403 Forbidden; run again"):
        refs_of(tmp_path, LayoutOptions(pattern=PEOPLE))
