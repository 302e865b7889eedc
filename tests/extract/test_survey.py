"""The survey: eleven public datasets in miniature as they must be found, and what spoils papers."""

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from PIL import Image
from small_bucket import options

from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.plain_text import visible
from embeddings_store.reader import open_reader
from embeddings_store.schema import Note
from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.layouts.cards import cards
from extract.layouts.contract import Scan, make_ref
from extract.layouts.datasets import dataset_names, load_datasets
from extract.layouts.options import LayoutOptions
from extract.layouts.workbook import read_workbook
from extract.pipeline import extract
from extract.survey import run as survey_run
from extract.survey.facts import Surveyed
from extract.survey.options import SurveyOptions
from extract.survey.run import describe_survey, survey
from extract.survey.shortcuts import facts_that_tell

EYES = {"OD": "R", "OS": "L", None: ""}
LISTS = ("volumes", "participants", "files", "ids", "numbers", "pairs", "groups", "names")


def surveyed(bucket: Path, out: Path, **more: Any) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """Give the summary, and the lines of scans; those of errors name none, and are what the summary says."""
    found = survey(SurveyOptions(bucket=str(bucket), out=out, **more))
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    errors = [(line["file"], line["notes"]) for line in lines if not line["scan"]]
    assert errors == [(one["file"], f"error: {one['why']}") for one in found["unreadable"]]
    return found, {line["scan"]: line for line in lines if line["scan"]}


def pixels_of(root: Path, volume: dict[str, Any], tolerance: int) -> str:
    """Decode a JPEG volume as the expectation says: Pillow, to grey, whose pixels may differ by so much."""
    frames = [np.asarray(Image.open(root / name).convert("L")) for name in volume["files"]]
    corner = np.array([frame[0, 0] for frame in frames], dtype=int)
    assert np.abs(corner - volume["first_pixels"]).max() <= tolerance, "the slices stand in another order"
    return hashlib.sha256(np.stack(frames).tobytes()).hexdigest()


@pytest.mark.parametrize("name", dataset_names())
def test_a_dataset_in_miniature_is_found_as_it_is(name: str, reference: Path, tmp_path: Path) -> None:
    root = reference / "datasets" / name
    expected = json.loads((root / "expected.json").read_text())
    found, lines = surveyed(root / "data", tmp_path / "scans.csv", layout=name, checksums=True)
    volumes = {one["key"]: one for one in expected["volumes"]}
    assert lines.keys() == volumes.keys()
    for key, one in volumes.items():
        line = lines[key]
        told = [line[column] for column in ("participant", "eye", "split", "visit", "frames", "rows", "columns")]
        size = [str(number) for number in one["shape"]]
        assert told == [one["participant"], EYES[one["eye"]], one["split"] or "", one.get("visit") or "", *size], key
        labels = {name: "" if value is None else str(value) for name, value in one["labels"].items()}
        assert {name: line[name] for name in labels} == labels, key
        pixels = one["sha256"] if expected["exact"] else pixels_of(root / "data", one, expected["pixel_tolerance"])
        assert line["sha256"] == pixels, key
    assert {one["file"] for one in found["ignored_files"]} == {one["file"] for one in expected["ignored_files"]}
    assert {one["file"] for one in found["unreadable"]} == {one["file"] for one in expected["unreadable_files"]}
    assert found["warnings"].keys() == {one["code"] for one in expected["warnings"]}
    for one in expected["warnings"]:
        count = next((len(one[column]) for column in LISTS if column in one), one.get("count"))
        assert count in (None, found["warnings"][one["code"]]), one["code"]
    counts = expected["counts"]
    assert (found["participants"], found["eyes_known"], found["frames"]) == tuple(
        counts[column] for column in ("participants", "eyes_known", "frames")
    )


@pytest.mark.parametrize("name", dataset_names())
def test_auto_names_the_dataset_wherever_it_lies_and_its_table_finds_the_same_files(
    name: str, reference: Path, tmp_path: Path
) -> None:
    shutil.copytree(reference / "datasets" / name / "data", tmp_path / "bucket" / "some folder" / name)
    source = FolderSource(tmp_path / "bucket")
    found = list_volumes(source)
    assert found.layout == name
    summary, lines = surveyed(tmp_path / "bucket", tmp_path / "scans.csv")
    empty = sum("holds no B-scans" in one["why"] for one in summary["unreadable"])
    assert len(lines) == len(found.refs) - empty
    source.layout = LayoutOptions(scans=tmp_path / "scans.csv")
    again, errors = list_volumes(source), {one["file"] for one in summary["unreadable"]}
    before = {ref.key: (ref.members, ref.participant, ref.eye) for ref in found.refs}
    assert all(
        (ref.members, ref.participant, ref.eye) == before[ref.key] for ref in again.refs if ref.key not in errors
    )


def test_without_checksums_only_first_bytes_tell_the_sizes(reference: Path, tmp_path: Path) -> None:
    for name in ("gamma", "cirrus_onh", "octdl", "retouch"):
        _, whole = surveyed(reference / "datasets" / name / "data", tmp_path / "a.csv", checksums=True)
        _, heads = surveyed(reference / "datasets" / name / "data", tmp_path / "b.csv")
        for scan, line in heads.items():
            columns = ("rows", "columns", "bits") if name == "gamma" else ("frames", "rows", "columns", "bits")
            assert [line[column] for column in columns] == [whole[scan][column] for column in columns]
            assert line["sha256"] == ""


def cohort(root: Path, *lines: str, head: str = "file,participant,split,amd") -> Path:
    path = root.parent / "scans.csv"
    path.write_text("\n".join((head, *lines)) + "\n")
    return path


def cube(path: Path, seed: int, frames: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(seed).integers(0, 255, (frames, 8, 8), dtype=np.uint8))


def test_people_in_two_splits_and_equal_pixels_under_two_labels_are_named(tmp_path: Path) -> None:
    root = tmp_path / "bucket"
    for number, seed in enumerate((1, 2, 1, 3, 4, 4)):
        cube(root / f"{number}.npy", seed)
    labels = cohort(
        root,
        "0.npy,a,train,1",
        "1.npy,a,test,1",
        "2.npy,b,train,0",
        "3.npy,c,train,0",
        "4.npy,d,val,1",
        "5.npy,e,val,1",
    )
    found, _ = surveyed(root, tmp_path / "out.csv", scans=labels, checksums=True)
    assert found["warnings"] == {
        "patient_in_several_splits": 1, "eye_unknown": 6, "duplicate_pictures": 1, "label_conflict": 1,
    }  # fmt: skip
    told = {one["code"]: one["concerns"] for one in found["warning_details"]}
    assert told["patient_in_several_splits"] == ("a",)
    assert told["label_conflict"] == ("0.npy = 2.npy",)
    assert told["duplicate_pictures"] == ("4.npy = 5.npy",)


def test_a_frame_count_that_gives_the_label_is_named_with_its_accuracy_and_one_that_does_not_is_not(
    tmp_path: Path,
) -> None:
    root = tmp_path / "bucket"
    for number in range(40):
        cube(root / f"{number}.npy", number, frames=3 + number % 2)
    told = cohort(root, *(f"{number}.npy,p{number},,{number % 2}" for number in range(40)))
    found, _ = surveyed(root, tmp_path / "a.csv", scans=told)
    (warned,) = [one for one in found["warning_details"] if one["code"] == "facts_tell_label"]
    assert warned["concerns"] == ("frame count alone reaches balanced accuracy 1.00 for amd",)
    untold = cohort(root, *(f"{number}.npy,p{number},,{number // 2 % 2}" for number in range(40)))
    assert "facts_tell_label" not in surveyed(root, tmp_path / "b.csv", scans=untold)[0]["warnings"]


def test_facts_that_give_a_label_only_together_or_by_a_threshold_are_named_and_chance_is_not() -> None:
    rng, seen = np.random.default_rng(0), list[Surveyed]()
    for number in range(120):
        odd, wide = number % 2, number // 2 % 2
        labels = {
            "both": str(odd ^ wide), "many": "high" if number >= 60 else "low", "none": str(rng.integers(2)),
            "age": str(number),
        }  # fmt: skip
        scan = Scan(make_ref(f"{number}.npy", (), f"p{number}"), str(number))
        seen.append(Surveyed(scan, (f"{number}.npy",), 100 + 2 * number + odd, 8, 8 + 8 * wide, 8, labels=labels))
    told = facts_that_tell(seen, ("both", "many", "none", "age"))
    ((warned),) = told
    assert [said for said in warned.concerns if said.endswith("many")] == [
        "frame count alone reaches balanced accuracy 0.99 for many"
    ]
    assert not [said for said in warned.concerns if said.endswith(("none", "age"))]
    flat = [replace(one, frames=3 + int(one.scan.name) % 2) for one in seen]
    (warned,) = facts_that_tell(flat, ("both", "none"))
    assert warned.concerns == (
        "frame count, size, bit depth, file type, vendor together reach balanced accuracy 1.00 for both",
    )


def test_a_part_of_a_dataset_is_counted(reference: Path, tmp_path: Path) -> None:
    found, _ = surveyed(reference / "datasets" / "a2a" / "data", tmp_path / "scans.csv", layout="a2a")
    assert found["part_of_whole"] == "6 of the 384 volumes of Duke A2A SD-OCT (Farsiu et al. 2014) are here"
    assert found["part_of_whole"] in describe_survey(found)
    whole = load_datasets()["a2a"]
    assert (whole.part_of_whole(384, 384), load_datasets()["neh_ut"].part_of_whole(500, 441)) == ("", "")


@pytest.mark.parametrize(("typed", "nearest"), [("fairvison", "fairvision"), ("Kermany", "kermany_oct2017")])
def test_an_unknown_dataset_names_the_nearest(typed: str, nearest: str, command: Command, tmp_path: Path) -> None:
    done = command("extract-embeddings", "survey", "--bucket", tmp_path, "--layout", typed, "--out", tmp_path / "x.csv")
    assert done.code == 2
    assert f"did you mean {nearest}?" in done.stderr
    done = command("extract-embeddings", "datasets", typed)
    assert (done.code, f"did you mean {nearest}?" in done.stderr) == (2, True)


def test_a_survey_that_was_cut_off_goes_on(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, looked = reference / "datasets" / "cirrus_onh" / "data", list[str]()
    look = survey_run.look_at

    def count(source: Any, scan: Any, *rest: Any, **more: Any) -> Any:
        looked.append(scan.name)
        if len(looked) == 4:
            raise KeyboardInterrupt
        return look(source, scan, *rest, **more)

    monkeypatch.setattr(survey_run, "look_at", count)
    monkeypatch.setattr(survey_run, "AT_ONCE", 1)
    with pytest.raises(KeyboardInterrupt):
        surveyed(bucket, tmp_path / "scans.csv", checksums=True)
    assert not (tmp_path / "scans.csv").exists()
    first = len(looked)
    found, lines = surveyed(bucket, tmp_path / "scans.csv", checksums=True)
    assert len(looked) - first < 8
    monkeypatch.setattr(survey_run, "look_at", look)
    whole, again = surveyed(bucket, tmp_path / "again.csv", checksums=True)
    assert (lines, found["warnings"]) == (again, whole["warnings"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.csv", "scans.csv"]


def test_own_pictures_are_surveyed_without_people_for_a_person_to_fill_in(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        (tmp_path / "b/x y").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30), number, np.uint8)).save(tmp_path / f"b/x y/{number}.png")
    (tmp_path / "b/broken.npy").write_bytes(b"\x93NUMPY broken")
    sheet = tmp_path / "sheet.png"
    found, lines = surveyed(tmp_path / "b", tmp_path / "scans.csv", checksums=True, contact_sheet=sheet)
    assert lines["x y"]["file"] == "x y"
    assert (lines["x y"]["participant"], lines["x y"]["frames"], lines["x y"]["notes"]) == ("", "3", "missing slices 3")
    assert [one["file"] for one in found["unreadable"]] == ["broken.npy"]
    assert "error: broken.npy" in describe_survey(found)
    with Image.open(sheet) as drawn:
        assert drawn.width == 1000


ODD_NAMES = ("=1+1", "+cmd|x", "-a", "@sum", "='d'", "'e'", '"f"', "g\x07", "=h\x1b[2J", "-5", "plain")


def test_names_that_a_spreadsheet_would_compute_come_back_as_they_are(tmp_path: Path) -> None:
    for number, name in enumerate(ODD_NAMES):
        (tmp_path / "b" / name).mkdir(parents=True)
        Image.fromarray(np.full((20, 30), number, np.uint8)).save(tmp_path / "b" / name / "1.png")
        Image.fromarray(np.full((20, 30), number + 50, np.uint8)).save(tmp_path / "b" / name / "2.png")
        (tmp_path / "b" / f"{name}.npy").write_bytes(b"\x93NUMPY broken")
    out = tmp_path / "scans.csv"
    survey(SurveyOptions(bucket=str(tmp_path / "b"), out=out))
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    cells = [cell for line in lines for cell in line.values()]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@")) and not cell.startswith("-5")] == []
    assert not any(cell != visible(cell) for cell in cells)
    scans = [line | {"participant": f"P{number}"} for number, line in enumerate(lines) if line["scan"]]
    with out.open("w", newline="") as file:
        table = csv.DictWriter(file, scans[0].keys())
        table.writeheader()
        table.writerows(scans)
    source = FolderSource(tmp_path / "b")
    source.layout = LayoutOptions(scans=out)
    refs = list_volumes(source).refs
    files = {f"{name}.npy": 0 for name in ODD_NAMES}
    assert {ref.key: len(ref.members) for ref in refs} == dict.fromkeys(ODD_NAMES, 2) | files


def test_a_damaged_picture_spoils_its_scan_for_the_survey_as_for_the_extraction(
    tmp_path: Path, command: Command
) -> None:
    root, out = tmp_path / "bucket", tmp_path / "scans.csv"
    for name in ("P1", "P2"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 255, (20, 30), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / "P2/2.png").write_bytes((root / "P2/2.png").read_bytes()[:300])
    words = ("survey", "--bucket", root, "--out", out, "--pattern", r"(?P<participant>P\d)", "--checksums", "--json")
    done = command("extract-embeddings", *words)
    assert (done.code, [one["file"] for one in done.json["unreadable"]]) == (3, ["P2"])
    _, lines = surveyed(root, tmp_path / "again.csv", pattern=r"(?P<participant>P\d)", checksums=True)
    assert lines.keys() == {"P1"}
    summary = extract(options(root, tmp_path / "store", scans=out))
    assert (summary["committed"], [one["key"] for one in summary["first_errors"]]) == (1, ["P2"])


def test_a_file_of_no_kind_is_an_error_line_by_its_first_bytes(tmp_path: Path) -> None:
    cube(tmp_path / "b/a.npy", 1)
    (tmp_path / "b/c.npy").write_bytes(b"no scan at all" * 20)
    found, lines = surveyed(tmp_path / "b", tmp_path / "scans.csv")
    assert (list(lines), [one["file"] for one in found["unreadable"]]) == (["a.npy"], ["c.npy"])


def test_another_dataset_is_named_and_two_that_fit_are_refused(reference: Path, tmp_path: Path) -> None:
    gamma, octdl = (reference / "datasets" / name / "data" for name in ("gamma", "octdl"))
    with pytest.raises(UsageError, match="those of gamma"):
        surveyed(gamma, tmp_path / "scans.csv", layout="octdl")
    shutil.copytree(gamma, tmp_path / "both" / "a")
    shutil.copytree(octdl, tmp_path / "both" / "b")
    with pytest.raises(UsageError, match="gamma and octdl"):
        surveyed(tmp_path / "both", tmp_path / "scans.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OctProbeError, match="nothing is there"):
        surveyed(tmp_path / "empty", tmp_path / "scans.csv", layout="gamma")


def test_single_pictures_are_refused_for_an_encoder_of_volumes_by_name(
    reference: Path, tmp_path: Path, command: Command
) -> None:
    bucket = reference / "datasets" / "octdl" / "data"
    words = ("--bucket", bucket, "--store", tmp_path / "s", "--encoder", "random:tiny", "--image-size", "8,32,32")
    left = command("extract-embeddings", *words, "--device", "cpu")
    assert left.code == 2
    assert "octdl" in left.stderr
    assert "random:tiny" in left.stderr
    assert not (tmp_path / "s").exists()


def test_every_card_is_whole_and_its_file_short() -> None:
    for card in cards():
        assert all(card[name] for name in ("title", "what", "get", "licence", "citation", "traps", "labels"))
    assert set(load_datasets()) == set(dataset_names())
    meanings: dict[str, tuple[str, ...]] = {}
    for dataset in load_datasets().values():
        assert dataset.tasks
        for task in dataset.tasks:
            assert task.target in dataset.columns
            assert set(task.groups) in (set(), set(task.classes))
            if task.same_as:
                assert meanings.setdefault(task.same_as, task.classes) == task.classes


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"PK"])
def test_a_damaged_workbook_is_refused(data: bytes) -> None:
    with pytest.raises(OctProbeError, match="workbook"):
        read_workbook(data, "labels.xlsx")


def test_a_picture_that_does_not_open_is_left_out_by_the_extraction_as_by_the_survey(
    reference: Path, tmp_path: Path
) -> None:
    bucket = reference / "datasets" / "gamma" / "data"
    expected = json.loads((bucket.parent / "expected.json").read_text())["volumes"]
    frames = {one["files"][0].rpartition("/")[0]: one["n_frames"] for one in expected}
    surveyed(bucket, tmp_path / "scans.csv", checksums=True)
    for more in ({"layout": "gamma"}, {"scans": tmp_path / "scans.csv"}):
        store = tmp_path / "-".join(more)
        found = extract(options(bucket, store, **more))
        lines_of_errors = {} if "layout" in more else {"DamagedScan": 1}
        assert (found["committed"], found["errors"]) == (len(expected), lines_of_errors)
        reader = open_reader(str(store))
        rows = np.flatnonzero(reader.committed()).tolist()
        index, facts = reader.index().loc[rows], reader.facts(rows)
        assert sorted(facts["frames"].astype(int)) == sorted(frames.values())
        if "layout" in more:
            noted = {int(row) for row in facts.index if int(facts.loc[row, "notes"]) & Note.SLICES_MISSING.value}
            broken = {int(index.loc[index["key"] == key, "row"].iloc[0]) for key in frames if key.endswith("0019")}
            assert broken < noted
    own = shutil.copytree(bucket, tmp_path / "own")
    found = extract(
        options(own, tmp_path / "other", layout="folder", pattern=r"(?P<participant>\d+)/\d+/\d+_image.jpg")
    )
    assert sum(found["errors"].values()) == 1, "of own scans nobody knows what is missing"
