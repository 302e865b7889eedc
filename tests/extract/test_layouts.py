"""Tables, folders and patterns: which objects are a scan, whose it is, and what is refused."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_bucket import assert_same_rows, fill_bucket, options, rows
from vendor_files import make_e2e

from embeddings_store.errors import OctProbeError, UsageError
from embeddings_store.reader import open_reader
from embeddings_store.schema import ABSENT_SIZE, Eye, Note, ObjectInfo, VolumeRef, site_of, volume_id
from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.bucket.members import fetch_members
from extract.errors import ScanError
from extract.layouts.ai_readi import names_protocol
from extract.layouts.contract import Listing, Skip, natural, participant_fault
from extract.layouts.options import LayoutOptions
from extract.pipeline import extract
from extract.scan import read_fetched
from extract.survey.options import SurveyOptions
from extract.survey.run import survey
from extract.volume import Volume


def listed(root: Path, **layout: object) -> Listing:
    source = FolderSource(root)
    source.layout = LayoutOptions(**layout)  # type: ignore[arg-type]
    return list_volumes(source)


def picture(path: Path, seed: int, shape: tuple[int, int] = (40, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)).save(path)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    root = tmp_path / "bucket"
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11):
        picture(root / f"P17_OD/{number}.png", number)
        picture(root / f"P18_OS/slice{number}.png", 100 + number)
    (root / "cubes").mkdir()
    np.save(root / "cubes/a.npy", np.random.default_rng(0).integers(0, 255, (12, 40, 48), dtype=np.uint8))
    (root / "Thumbs.db").write_bytes(b"x")
    return root


def table(root: Path, *lines: str, head: str = "file,participant,eye", name: str = "scans.csv") -> Path:
    path = root.parent / name
    path.write_text("\n".join((head, *lines)) + "\n")
    return path


class TestTable:
    def test_a_folder_a_glob_and_a_file_are_scans(self, bucket: Path) -> None:
        found = listed(bucket, scans=table(bucket, "P17_OD,017,OD", "P18_OS/*.png,18,left", "cubes/a.npy,x y,"))
        refs = {ref.key: ref for ref in found.refs}
        assert [(ref.participant, ref.eye, len(ref.members)) for ref in refs.values()] == [
            ("017", Eye.RIGHT, 11),
            ("18", Eye.LEFT, 11),
            ("x y", Eye.UNKNOWN, 0),
        ]
        assert [info.key for info in refs["P17_OD"].members] == [f"P17_OD/{number}.png" for number in range(1, 12)]
        assert refs["P17_OD"].size == sum((bucket / f"P17_OD/{n}.png").stat().st_size for n in range(1, 12))
        assert {site_of(ref.participant, ref.site) for ref in refs.values()} == {"unknown"}
        assert found.skipped == {Skip.SYSTEM: 1}

    def test_the_etag_changes_with_any_member(self, bucket: Path) -> None:
        path = table(bucket, "P17_OD,017,OD")
        before = listed(bucket, scans=path).refs[0]
        picture(bucket / "P17_OD/7.png", 99, (41, 48))
        assert listed(bucket, scans=path).refs[0].etag != before.etag

    def test_what_is_not_there_is_an_error_row_and_what_has_no_line_is_counted(self, bucket: Path) -> None:
        found = listed(bucket, scans=table(bucket, "P17_OD,017,OD", "gone.npy,3,", "none/*.png,4,", "P17_OD/1*.jpg,5,"))
        absent = [ref.key for ref in found.refs if ref.size == ABSENT_SIZE]
        assert absent == ["P17_OD/1*.jpg", "gone.npy", "none/*.png"]
        assert found.skipped[Skip.NO_LINE] == 12
        assert found.examples[Skip.NO_LINE].startswith("P18_OS")

    @pytest.mark.parametrize(
        ("line", "named"),
        [
            ("../secret.npy,1,", "leaves the bucket"),
            ("cubes/../../secret.npy,1,", "leaves the bucket"),
            ("..\\secret.npy,1,", "leaves the bucket"),
            ("/etc/passwd,1,", "absolute"),
            ("C:\\scans\\a.npy,1,", "absolute"),
            ("s3://other/a.npy,1,", "absolute"),
            (",1,", "nothing"),
            ("cubes/a.npy,,", "nothing"),
            ("cubes/a.npy,a/b,", "slash"),
            (f"cubes/a.npy,{'x' * 65},", "65 characters"),
            ("cubes/a.npy,1,both", "L, R, OD, OS"),
        ],
    )
    def test_a_line_that_cannot_be_meant_is_refused_by_its_number(self, bucket: Path, line: str, named: str) -> None:
        with pytest.raises(UsageError, match="line 3") as refused:
            listed(bucket, scans=table(bucket, "P17_OD,017,OD", line))
        assert named in str(refused.value)

    def test_two_scans_under_one_key_are_refused_and_a_line_twice_is_counted(self, bucket: Path) -> None:
        found = listed(bucket, scans=table(bucket, "P17_OD,017,OD", "P17_OD,017,OD", "P17_OD/,017,OD"))
        assert (len(found.refs), found.skipped[Skip.DOUBLE]) == (1, 2)
        with pytest.raises(UsageError, match=r"line 3.*again, of line 2"):
            listed(bucket, scans=table(bucket, "P17_OD,017,OD", "P17_OD,018,OD"))
        with pytest.raises(UsageError, match="which 'P17_OD' holds too"):
            listed(bucket, scans=table(bucket, "P17_OD,017,OD", "P17_OD/1*.png,017,OD"))

    def test_tables_as_spreadsheets_save_them(self, bucket: Path) -> None:
        path = bucket.parent / "scans.csv"
        path.write_bytes(
            b'\xef\xbb\xbfpath;patient_id;Eye;remark\r\n"P17_OD";007;OD;"two\nlines"\r\ncubes\\a.npy;08;;2\r\n'
        )
        found = listed(bucket, scans=path, columns={"file": "path", "participant": "patient_id"})
        assert [ref.participant for ref in found.refs] == ["007", "08"]
        assert found.scans["cubes/a.npy"].ref.size > 0

    def test_four_digits_are_no_participant_of_ai_readi_elsewhere(self, bucket: Path) -> None:
        head = "file,participant,protocol"
        ref = listed(bucket, scans=table(bucket, "cubes/a.npy,1001,macula 6x6", head=head)).refs[0]
        assert names_protocol(ref)
        assert not names_protocol(replace(ref, key="retinal_oct/structural_oct/x/1001/1001_new_oct_l_1.dcm"))

    def test_a_parquet_table_keeps_whole_numbers_with_gaps(self, bucket: Path) -> None:
        columns = {
            "file": ["P17_OD", "cubes/a.npy"],
            "participant": pa.array([17, 18], pa.int64()),
            "grade": pa.array([3, None], pa.int64()),
            "visit": [2.0, float("nan")],
            "thickness": [250.5, None],
            "zero": ["007", None],
        }
        path = bucket.parent / "scans.parquet"
        pq.write_table(pa.table(columns), path)  # without pandas' own notes, as R and Spark write it
        first, second = (listed(bucket, scans=path).scans[key] for key in ("P17_OD", "cubes/a.npy"))
        assert (first.ref.participant, first.visit) == ("17", "2")
        assert dict(first.labels) == {"grade": "3", "thickness": "250.5", "zero": "007"}
        assert dict(second.labels) == {"grade": "", "thickness": "", "zero": ""}
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(UsageError, match="damaged"):
            listed(bucket, scans=path)

    def test_labels_sites_and_splits_come_from_the_table(self, bucket: Path) -> None:
        head = "file,participant,site,split,amd,scan,sha256"
        found = listed(bucket, scans=table(bucket, "P17_OD,1001,Basel,val,1,first,ff", head=head))
        scan = found.scans["P17_OD"]
        assert (scan.ref.site, scan.split, scan.name, dict(scan.labels)) == ("Basel", "val", "first", {"amd": "1"})

    def test_a_name_with_a_number_sign_is_a_name(self, bucket: Path) -> None:
        picture(bucket / "P19#2/1.png", 0)
        np.save(bucket / "cubes/a#3.npy", np.zeros((4, 4, 4), np.uint8))
        found = listed(bucket, scans=table(bucket, "P19#2,19,", "cubes/a#3.npy,20,", "cubes/a.npy#1,21,"))
        numbers = {ref.key: ref.reading.volume for ref in found.refs}
        assert numbers == {"P19#2": None, "cubes/a#3.npy": None, "cubes/a.npy#1": 1}

    def test_a_link_out_of_the_bucket_is_no_scan(self, bucket: Path) -> None:
        np.save(bucket.parent / "outside.npy", np.zeros((4, 4, 4), np.uint8))
        (bucket / "link.npy").symlink_to(bucket.parent / "outside.npy")
        found = listed(bucket, scans=table(bucket, "link.npy,1,"))
        assert (found.refs[0].size, found.skipped[Skip.OUTSIDE]) == (ABSENT_SIZE, 1)


class TestFolder:
    def test_a_pattern_names_people_and_eyes(self, bucket: Path) -> None:
        found = listed(bucket, pattern=r"(?P<participant>P\d+)_(?P<eye>OD|OS)")
        assert [(ref.key, ref.participant, str(ref.eye), len(ref.members)) for ref in found.refs] == [
            ("P17_OD", "P17", "R", 11),
            ("P18_OS", "P18", "L", 11),
        ]
        assert found.skipped == {Skip.SYSTEM: 1, Skip.LAYOUT: 1}

    @pytest.mark.parametrize("pattern", ["(", "P17", "(?P<person>x)", "(?P<participant>x)(?P<who>y)"])
    def test_a_pattern_that_names_nobody_is_refused(self, bucket: Path, pattern: str) -> None:
        with pytest.raises(UsageError, match="--pattern: expected"):
            listed(bucket, pattern=pattern)

    def test_patients_are_pseudonyms_of_a_secret_that_only_its_owner_reads(self, tmp_path: Path) -> None:
        from dicom_files import make_file

        root, secret = tmp_path / "bucket", tmp_path / "secret"
        root.mkdir()
        for name, patient in (("a", "Doe^1"), ("b", "Doe^2"), ("c", "Doe^1 ")):
            data = make_file(np.zeros((3, 8, 8), np.uint8), PatientID=patient)
            (root / name).write_bytes(data)
        people = [ref.participant for ref in listed(root, layout="folder", pseudonyms=secret).refs]
        assert people[0] == people[2] != people[1]
        assert "Doe" not in "".join(people)
        assert secret.stat().st_mode & 0o777 == 0o600
        assert [ref.participant for ref in listed(root, layout="folder", pseudonyms=secret).refs] == people
        with pytest.raises(UsageError, match="--pseudonyms"):
            listed(root, layout="folder")
        secret.write_text("short")
        with pytest.raises(UsageError, match="64 hex digits"):
            listed(root, layout="folder", pseudonyms=secret)

    def test_the_secret_lies_in_the_folder_of_the_store_or_table_unless_typed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from dicom_files import make_file

        root, secret = tmp_path / "bucket", tmp_path / "pseudonyms.key"
        root.mkdir()
        (root / "a.dcm").write_bytes(make_file(np.ones((12, 40, 40), np.uint8), PatientID="Doe^1"))
        extract(options(root, tmp_path / "store", layout="folder"))
        assert secret.stat().st_mode & 0o777 == 0o600
        assert str(secret) in capsys.readouterr().err
        (person,) = open_reader(str(tmp_path / "store")).index()["participant"]
        survey(SurveyOptions(bucket=str(root), out=tmp_path / "out.csv"))
        assert person in (tmp_path / "out.csv").read_text()
        assert str(secret) not in capsys.readouterr().err, "it is told once"
        extract(options(root, tmp_path / "x" / "store", layout="folder", pseudonyms=secret))
        assert list(open_reader(str(tmp_path / "x" / "store")).index()["participant"]) == [person]
        assert not (tmp_path / "x" / "pseudonyms.key").exists()
        with pytest.raises(UsageError, match="no folder of this machine is written to"):
            listed(root, layout="folder")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bucket", "out.csv", "pseudonyms.key", "store", "x"]

    def test_files_without_a_participant_are_counted_and_surveyed(self, bucket: Path) -> None:
        found = listed(bucket, layout="folder")
        assert (found.refs, sorted(found.scans)) == ([], ["P17_OD", "P18_OS", "cubes/a.npy"])
        assert found.skipped[Skip.NO_PARTICIPANT] == 23


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    for wrong in (
        {"layout": "gamma", "scans": tmp_path / "x"},
        {"scans": tmp_path / "x", "pattern": "(?P<participant>x)"},
        {"layout": "table"},
        {"layout": "gama"},
        {"columns": {"file": "x"}},
    ):
        with pytest.raises(UsageError):
            LayoutOptions(**wrong)  # type: ignore[arg-type]


def test_any_short_text_is_a_participant() -> None:
    assert [participant_fault(text) for text in ("0017", "Müller 3", "a-b_c.d", "x" * 64)] == [""] * 4
    assert all(participant_fault(text) for text in ("", " ", "a\nb", "a/b", "a\\b", "x" * 65, "a\x85b", "a\u2028b"))


def test_numbers_in_names_count_as_numbers() -> None:
    assert sorted(["10.png", "2.png", "1a10", "1a9"], key=natural) == ["1a9", "1a10", "2.png", "10.png"]


class TestExtraction:
    def test_a_picture_folder_and_a_cube_of_the_same_voxels_have_one_embedding(self, bucket: Path) -> None:
        frames = [np.asarray(Image.open(bucket / f"P17_OD/{number}.png")) for number in range(1, 12)]
        np.save(bucket / "cubes/same.npy", np.stack(frames))
        np.savez(bucket / "cubes/boxed.npz", volume=np.stack(frames), age=np.array(70))
        path = table(bucket, "P17_OD,17,OD", "cubes/same.npy,17b,OD", "cubes/boxed.npz,17c,OD", "gone.npy,19,")
        store = bucket.parent / "store"
        summary = extract(options(bucket, store, scans=path))
        assert (summary["committed"], summary["errors"]) == (3, {"FetchError": 1}), [
            one["reason"][-400:] for one in summary["first_errors"]
        ]
        assert summary["first_errors"][0]["key"] == "gone.npy"
        assert "table names" in summary["first_errors"][0]["reason"]
        found = rows(store)
        facts = 14  # the last numbers, of which the notes differ
        assert np.array_equal(found["P17_OD"][:-facts], found["cubes/same.npy"][:-facts])
        assert np.array_equal(found["cubes/boxed.npz"], found["cubes/same.npy"], equal_nan=True)
        index = open_reader(str(store)).index()
        assert set(index["site"]) == {"unknown"}
        again = extract(options(bucket, store, scans=path))
        assert again["already_done"] == 4

    def test_only_the_slices_that_are_looked_at_are_fetched(self, bucket: Path) -> None:
        source = FolderSource(bucket)
        source.layout = LayoutOptions(scans=table(bucket, "P17_OD,17,OD"))
        ref = list_volumes(source).refs[0]
        before = source.counts.get_requests
        found = fetch_members(source, ref, lambda count: np.array([0, count - 1]))
        assert (source.counts.get_requests - before, found.frames, found.md5) == (2, (0, 10), bytes(16))
        whole = fetch_members(source, ref, None)
        sums = b"".join(hashlib.md5((bucket / info.key).read_bytes()).digest() for info in ref.members)
        assert whole.md5 == hashlib.md5(sums).digest()

    def test_a_slice_of_another_kind_is_refused_though_it_is_not_used(self, bucket: Path) -> None:
        def few(count: int) -> np.ndarray:
            return np.array([0, count - 1])

        def read(name: str = "P17_OD") -> Volume:
            source = FolderSource(bucket)
            source.layout = LayoutOptions(scans=table(bucket, f"{name},17,OD"))
            ref = list_volumes(source).refs[0]
            return read_fetched(fetch_members(source, ref, few, look=True), ref, few)

        assert read().frame_numbers.tolist() == [0, 10]
        pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        equal = np.repeat(pixels[..., :1], 3, axis=-1)
        slide = bucket / "P17_OD/5.png"
        for odd, named in (
            (pixels[:30, :, 0], "30 x 48"),
            (pixels, "colour"),
            (pixels[..., 0].astype(np.uint16) << 8, "depth"),
        ):
            Image.fromarray(odd).save(slide)
            with pytest.raises(ScanError, match=named):
                read()
        Image.fromarray(equal).save(slide)
        assert read().frame_numbers.tolist() == [0, 10], "grey in three channels is grey"
        for number in range(3):
            path = bucket / f"T/{number}.tif"
            path.parent.mkdir(exist_ok=True)
            big = np.random.default_rng(number).integers(0, 255, (100, 100), dtype=np.uint8)
            Image.fromarray(big).save(path, compression="tiff_lzw")  # its directory stands at the end
        assert Note.SLICES_UNSEEN in read("T").notes

    def test_a_store_of_ai_readi_goes_on_growing(self, tmp_path: Path) -> None:
        bucket, store = fill_bucket(tmp_path / "bucket", 2), tmp_path / "store"
        extract(options(bucket, store))
        before = open_reader(str(store)).index()
        segments = sorted((store / "index").iterdir())
        again = extract(options(bucket, store, layout="ai-readi"))
        assert (again["already_done"], sorted((store / "index").iterdir())) == (2, segments)
        assert before["site"].tolist() == ["UW", "UW"]
        import pandas as pd

        assert "site" not in pd.read_parquet(segments[0]).columns

    def test_a_site_of_a_table_is_kept_and_makes_no_new_line(self, bucket: Path) -> None:
        path = table(bucket, "cubes/a.npy,1001,Basel", head="file,participant,site")
        store = bucket.parent / "store"
        extract(options(bucket, store, scans=path))
        segments = sorted((store / "index").iterdir())
        extract(options(bucket, store, scans=path))
        assert open_reader(str(store)).index()["site"].tolist() == ["Basel"]
        assert sorted((store / "index").iterdir()) == segments

    def test_pictures_of_two_sizes_are_an_error_row_and_one_picture_is_no_volume(self, bucket: Path) -> None:
        picture(bucket / "P17_OD/12.png", 1, (44, 48))
        picture(bucket / "one.png", 1)
        store = bucket.parent / "store"
        summary = extract(options(bucket, store, scans=table(bucket, "P17_OD,17,OD", "one.png,18,")))
        assert summary["errors"] == {"RefusedScan": 1, "NotAVolume": 1}


def test_a_ref_of_several_objects_keeps_its_key() -> None:
    ref = VolumeRef("a", 1, "e", volume_id("a"), "p", Eye.LEFT, "", "", members=(ObjectInfo("a/1.png", 1, "x"),))  # type: ignore[arg-type]
    assert ref == VolumeRef("a", 1, "e", volume_id("a"), "p", Eye.LEFT, "", "")  # type: ignore[arg-type]


def test_a_bucket_that_no_layout_fits_is_refused_with_a_way_out(tmp_path: Path) -> None:
    picture(tmp_path / "x/1.png", 0)
    with pytest.raises(OctProbeError, match="survey"):
        listed(tmp_path)


def test_arrays_are_read_as_the_options_say(tmp_path: Path) -> None:
    bucket, store = tmp_path / "bucket", tmp_path / "store"
    bucket.mkdir()
    voxels = np.random.default_rng(0).integers(0, 255, (12, 40, 48), dtype=np.uint8)
    np.savez(bucket / "a.npz", first=np.zeros((3, 4, 5)), oct=voxels.transpose(1, 2, 0))
    np.save(bucket / "b.npy", voxels)
    one = table(bucket, "a.npz,1,", name="a.csv")
    extract(options(bucket, store, scans=one, array="oct", axes="rows,columns,frames"))
    extract(options(bucket, tmp_path / "plain", scans=table(bucket, "b.npy,1,", name="b.csv")))
    assert np.array_equal(rows(store)["a.npz"], rows(tmp_path / "plain")["b.npy"], equal_nan=True)


def test_a_store_takes_no_rows_of_files_that_are_read_in_another_way(tmp_path: Path) -> None:
    bucket, store = tmp_path / "bucket", tmp_path / "store"
    bucket.mkdir()
    for name in "ab":
        np.save(bucket / f"{name}.npy", np.random.default_rng(0).integers(0, 255, (24, 40, 48), dtype=np.uint8))
    one, both = table(bucket, "a.npy,1,", name="one.csv"), table(bucket, "a.npy,1,", "b.npy,2,")
    extract(options(bucket, store, scans=one))
    space = open_reader(str(store)).space_id
    for wrong in ({"axes": "rows,columns,frames"}, {"array": "oct"}, {"colours": "luma"}):
        with pytest.raises(UsageError, match="no --array, --axes or --colours, this run reads with --"):
            extract(options(bucket, store, scans=both, **wrong))
    assert list(open_reader(str(store)).index()["key"]) == ["a.npy"], "nothing is announced of a refused run"
    assert extract(options(bucket, store, scans=both, axes="frames,rows,columns"))["committed"] == 2

    turned = tmp_path / "turned"
    extract(options(bucket, turned, scans=one, axes="rows,columns,frames"))
    with pytest.raises(UsageError, match="read with --axes rows,columns,frames, this run"):
        extract(options(bucket, turned, scans=both))
    assert extract(options(bucket, turned, scans=both, axes="rows,columns,frames"))["committed"] == 2
    assert open_reader(str(turned)).space_id == space, "volumes of other files may be compared"


def test_both_eyes_of_one_file_are_two_rows(tmp_path: Path) -> None:
    root, out = tmp_path / "bucket", tmp_path / "out.csv"
    root.mkdir()
    words = np.random.default_rng(0).integers(40 << 10, 60 << 10, (10, 40, 48)).astype(np.uint16)
    (root / "P1_both.E2E").write_bytes(make_e2e([(b"R", words), (b"L", words[::-1])]))
    (root / "P2_one.e2e").write_bytes(make_e2e([(b"L", words)]))
    (root / "P3_torn.e2e").write_bytes(make_e2e([(b"L", words)])[:5000])
    found = listed(root, pattern=r"(?P<participant>P\d)")
    keys = ["P1_both.E2E#1", "P1_both.E2E#2", "P2_one.e2e", "P3_torn.e2e"]
    assert [ref.key for ref in found.refs] == keys
    assert [str(ref.eye) for ref in found.refs[:2]] == ["R", "L"]
    summary = survey(SurveyOptions(bucket=str(root), out=out, pattern=r"(?P<participant>P\d)", checksums=True))
    assert (summary["volumes"], [one["file"] for one in summary["unreadable"]]) == (3, ["P3_torn.e2e"])
    lines = out.read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == keys
    for name, layout in (("folder", {"pattern": r"(?P<participant>P\d)"}), ("table", {"scans": out})):
        done = extract(options(root, tmp_path / name, **layout))
        assert (done["committed"], done["errors"]) == (3, {"DamagedScan": 1})
        right, left = (rows(tmp_path / name)[key] for key in keys[:2])
        assert not np.array_equal(right, left)
        assert list(open_reader(str(tmp_path / name)).index()["eye"])[:2] == ["R", "L"]
    assert_same_rows(tmp_path / "folder", tmp_path / "table")
    unnamed = table(root, "P1_both.E2E,1,", "P1_both.E2E#3,1,", "P2_one.e2e#1,2,", "none.e2e#1,2,", name="x.csv")
    done = extract(options(root, tmp_path / "unnamed", scans=unnamed))
    assert (done["committed"], done["errors"]) == (1, {"FetchError": 1, "RefusedScan": 2})
    reasons = " ".join(one["reason"] for one in done["first_errors"])
    assert "write file#1 to file#2" in reasons
    assert "expected one of 2 volumes in the file, got number 3" in reasons


def test_options_of_reading_are_refused_where_a_layout_knows_better(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--axes and --colours belong to"):
        listed(fill_bucket(tmp_path, 1), axes=("rows", "columns", "frames"))
