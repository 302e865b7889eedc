"""One volume in several objects: joined from all its parts wherever they are read, and never half of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from dicom_files import compress, layered_volume, make_file
from pydicom import Dataset
from pydicom.uid import JPEGLSLossless
from rclone_server import rclone_s3
from small_bucket import IMAGE_SIZE, LAYOUT, errors, options, rows

import extract.parts as parts_module
from embeddings_store.reader import open_reader
from embeddings_store.schema import INCOMPLETE, Note
from embeddings_store.status import store_status
from embeddings_store.verify import verify_store
from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.dicom.frame_ranges import find_ranges
from extract.dicom.reader import read_dicom
from extract.doctor.bucket import examine_volumes
from extract.errors import FetchError, IncompleteConcatenation, NotAVolume
from extract.pipeline import extract
from extract.preset import PRESETS, Recipe
from extract.retry import lift_classes
from reports.cases.sources import fetch_scan

WHOLE = layered_volume(12, 40, 36)
FOLDER = f"{LAYOUT}/1001"
Make = Callable[..., bytes]


def key_of(number: int) -> str:
    """Part numbers run against the order of the keys."""
    return f"{FOLDER}/1001_cirrus_mac_oct_l_1.2.{9 - number}.dcm"


def part_files(cuts: tuple[int, ...] = (6,), make: Make = make_file, voxels: np.ndarray = WHOLE, **each: Any) -> Any:
    """The parts of a volume, divided before these frames; each: an element's values, part by part; None: left out."""
    starts, stops = (0, *cuts), (*cuts, len(voxels))
    files = []
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        told = {
            "ConcatenationUID": "1.2.3.9",
            "SOPInstanceUIDOfConcatenationSource": "1.2.3.10",
            "InConcatenationNumber": number + 1,
            "InConcatenationTotalNumber": len(starts),
            "ConcatenationFrameOffsetNumber": start,
            "Modality": "OPT",
        } | {name: values[number] for name, values in each.items()}
        files.append(make(voxels[start:stop], **{name: value for name, value in told.items() if value is not None}))
    return files


def in_jpeg_ls(voxels: np.ndarray, **elements: Any) -> bytes:
    return compress(voxels, JPEGLSLossless, **elements)


def put(root: Path, files: dict[str, bytes]) -> Path:
    for key, data in files.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)
    return root


def bucket_of(root: Path, files: list[bytes]) -> Path:
    """The parts, beside a volume that is whole."""
    other = make_file(layered_volume(10, 40, 36, seed=5))
    return put(root, {f"{FOLDER}/1001_cirrus_disc_oct_l_1.3.dcm": other} | by_key(files))


def bucket_of_parts(root: Path, people: int) -> Path:
    """A volume in three parts for each of so many people."""
    for person in range(1001, 1001 + people):
        uids = dict.fromkeys(("ConcatenationUID", "SOPInstanceUIDOfConcatenationSource"), (f"1.2.3.{person}",) * 3)
        files = part_files((3, 7), voxels=layered_volume(12, 40, 36, seed=person), **uids)
        put(root, {key.replace("1001", str(person)): data for key, data in by_key(files).items()})
    return root


def by_key(files: list[bytes]) -> dict[str, bytes]:
    return {key_of(number): data for number, data in enumerate(files, start=1)}


def whole_rows(tmp_path: Path, make: Make = make_file) -> np.ndarray:
    """The row of the volume as one file, under the key of part 1; without notes."""
    bucket = put(tmp_path / "reference", {key_of(1): make(WHOLE, Modality="OPT")})
    if not (tmp_path / "reference-store").exists():
        extract(options(bucket, tmp_path / "reference-store"))
    return without_notes(rows(tmp_path / "reference-store")[key_of(1)])


def without_notes(row: np.ndarray) -> np.ndarray:
    """Facts come last, 14 of them; the notes are the eighth."""
    return np.delete(row, len(row) - 14 + 7)


class TestFiles:
    @pytest.mark.parametrize("cuts", [(6,), (1,), (11,), (3, 4, 9), tuple(range(1, 12))], ids=str)
    @pytest.mark.parametrize("make", [make_file, in_jpeg_ls])
    def test_parts_in_any_order_are_the_whole(self, cuts: tuple[int, ...], make: Make) -> None:
        files = part_files(cuts, make)
        for given in (files, files[::-1]):
            volume = read_dicom(given)
            np.testing.assert_array_equal(volume.voxels, WHOLE)
            assert (volume.frame_count, volume.notes & Note.JOINED) == (12, Note.JOINED)

    def test_frames_are_chosen_among_those_of_the_whole(self) -> None:
        for chosen in ([0, 5, 6, 11], [7, 8], [2]):
            volume = read_dicom(part_files((6,)), frames=lambda count, chosen=chosen: np.array(chosen) % count)
            np.testing.assert_array_equal(volume.voxels, WHOLE[chosen])

    def test_parts_that_differ_in_their_rescale_are_made_comparable(self) -> None:
        volume = read_dicom(part_files((6,), RescaleSlope=(1, 2), RescaleIntercept=(0, -3)))
        np.testing.assert_array_equal(volume.voxels, np.concatenate([WHOLE[:6], WHOLE[6:] * np.float32(2) - 3]))
        assert volume.notes & Note.RESCALED_BY_FRAME

    def test_positions_are_looked_at_across_parts(self) -> None:
        def groups(depths: range) -> list[Dataset]:
            found = []
            for depth in depths:
                place, group = Dataset(), Dataset()
                place.ImagePositionPatient, group.PlanePositionSequence = [0, 0, depth], [place]
                found.append(group)
                group.PlanePositionSequence = [place]
            return found

        rising = part_files((6,), PerFrameFunctionalGroupsSequence=(groups(range(6)), groups(range(6, 12))))
        falling = part_files((6,), PerFrameFunctionalGroupsSequence=(groups(range(6, 12)), groups(range(6))))
        assert not read_dicom(rising).notes & Note.FRAME_ORDER_DISAGREES
        assert read_dicom(falling).notes & Note.FRAME_ORDER_DISAGREES

    @pytest.mark.parametrize(
        ("each", "words"),
        [
            ({"InConcatenationNumber": (1, 1)}, "2 objects are part 1"),
            ({"InConcatenationTotalNumber": (3, 3)}, "part 1, 2 of 3 is here, part 3 is missing"),
            ({"InConcatenationTotalNumber": (2, 3)}, "gives 2 and 3"),
            ({"InConcatenationTotalNumber": (None, None)}, "gives no number"),
            ({"InConcatenationNumber": (1, None)}, "does not say its number"),
            ({"InConcatenationNumber": (2, 3)}, "part 2, 3 of 2 is here, part 1 is missing"),
            ({"ConcatenationFrameOffsetNumber": (0, 5)}, "part 2 of 2 begins with frame 5 .* hold 6 frames"),
            ({"ConcatenationFrameOffsetNumber": (0, 7)}, "part 2 of 2 begins with frame 7 .* hold 6 frames"),
            ({"ConcatenationFrameOffsetNumber": (1, 7)}, "part 1 of 2 begins with frame 1 .* hold 0 frames"),
            ({"ConcatenationUID": ("1.2", "1.3")}, "name different volumes"),
            ({"SOPInstanceUIDOfConcatenationSource": ("1.2", "1.3")}, "name different volumes"),
            ({"ImageLaterality": ("L", "R")}, "contradicts part 1: eye R, not L"),
            ({"BitsStored": (8, 7), "HighBit": (7, 6)}, "contradicts part 1: bits_stored 7, not 8"),
            ({"PhotometricInterpretation": ("MONOCHROME2", "MONOCHROME1")}, "contradicts part 1: photometric"),
        ],
        ids=str,
    )
    def test_parts_that_do_not_fit_together_are_refused_by_name(self, each: dict[str, Any], words: str) -> None:
        with pytest.raises(IncompleteConcatenation, match=words):
            read_dicom(part_files((6,), **each))

    def test_parts_of_another_shape_or_syntax_are_refused(self) -> None:
        first, _ = part_files((6,))
        _, wide = part_files((6,), voxels=layered_volume(12, 40, 38))
        _, compressed = part_files((6,), in_jpeg_ls)
        for second, words in (
            (wide, "columns 38, not 36"),
            (compressed, "transfer syntax"),
            (make_file(WHOLE), "whole"),
        ):
            with pytest.raises(IncompleteConcatenation, match=words):
                read_dicom([first, second])

    def test_what_is_told_nowhere_but_not_needed_is_forgiven(self) -> None:
        each = {"ConcatenationFrameOffsetNumber": (None, None), "InConcatenationTotalNumber": (None, 2)}
        np.testing.assert_array_equal(read_dicom(part_files((6,), **each)).voxels, WHOLE)

    def test_one_part_alone_is_no_volume_and_has_no_ranges(self) -> None:
        for number, data in enumerate(part_files((6,)), start=1):
            with pytest.raises(
                IncompleteConcatenation, match=f"part {number} of 2 is here, part {3 - number} is missing"
            ):
                read_dicom(data)
            assert find_ranges(data, len(data), lambda _: np.array([1])) is None

    def test_a_concatenation_of_one_part_is_a_whole(self) -> None:
        (data,) = part_files(())
        volume = read_dicom(data)
        np.testing.assert_array_equal(volume.voxels, WHOLE)
        assert not volume.notes & Note.JOINED
        with pytest.raises(NotAVolume):
            read_dicom(part_files((), voxels=WHOLE[:1])[0])

    def test_the_reported_files(self, reference: Path) -> None:
        files = sorted((reference / "dicom_reports").glob("c35*.dcm"))
        volume = read_dicom([path.read_bytes() for path in files])
        sound = np.load(reference / "dicom_reports" / "c18_no_meta_group_length.npy")
        assert volume.frame_count == 12
        np.testing.assert_array_equal(volume.voxels, sound)


class TestRuns:
    @pytest.mark.parametrize("make", [make_file, in_jpeg_ls])
    @pytest.mark.parametrize("mode", ["on", "off"])
    def test_the_row_is_that_of_the_whole_file(self, tmp_path: Path, make: Make, mode: str) -> None:
        bucket = bucket_of(tmp_path / "eye", part_files((3, 7), make))
        summary = extract(options(bucket, tmp_path / "store", partial_reads=mode))

        assert (summary["selected"], summary["committed"], summary["errors"], summary["parts"]) == (4, 2, {}, 2)
        found = rows(tmp_path / "store")[key_of(1)]
        np.testing.assert_array_equal(without_notes(found), whole_rows(tmp_path, make))
        status = store_status(open_reader(str(tmp_path / "store")))
        assert (status["rows"], status["committed"], status["errors"], status["parts"], status["missing"]) == (
            4,
            2,
            0,
            2,
            0,
        )
        assert status["coverage"]["eye"] == {"L": {"committed": 2, "errors": 0, "missing": 0}}
        checked = verify_store(str(tmp_path / "store"))
        assert (checked["checked"], checked["bad"], checked["orphans"], checked["damaged_files"]) == (2, 0, 0, {})

    def test_a_second_run_fetches_nothing(self, tmp_path: Path) -> None:
        bucket = bucket_of(tmp_path / "eye", part_files((6,)))
        extract(options(bucket, tmp_path / "store"))
        again = extract(options(bucket, tmp_path / "store"))
        assert (again["committed"], again["parts"], again["already_done"]) == (2, 1, 3)
        assert again["bytes"] == 0

    def test_a_part_alone_in_the_selection_makes_no_row_and_the_first_alone_makes_it(self, tmp_path: Path) -> None:
        bucket = bucket_of(tmp_path / "eye", part_files((6,)))
        parts_first = extract(options(bucket, tmp_path / "store", limit=2))  # the other volume, and part 2
        assert (parts_first["committed"], parts_first["parts"], parts_first["errors"]) == (1, 1, {})
        rest = extract(options(bucket, tmp_path / "store"))
        assert (rest["committed"], rest["parts"], rest["errors"]) == (2, 1, {})
        np.testing.assert_array_equal(without_notes(rows(tmp_path / "store")[key_of(1)]), whole_rows(tmp_path))

    def test_ranks_need_no_word_between_them(self, tmp_path: Path) -> None:
        bucket = bucket_of(tmp_path / "eye", part_files((3, 7)))
        for rank in range(4):
            extract(options(bucket, tmp_path / "store", rank=rank, ranks=4))
        assert store_status(open_reader(str(tmp_path / "store")))["parts"] == 2
        np.testing.assert_array_equal(without_notes(rows(tmp_path / "store")[key_of(1)]), whole_rows(tmp_path))

    def test_a_missing_part_is_an_error_row_until_it_comes(self, tmp_path: Path) -> None:
        files = part_files((3, 7))
        bucket = bucket_of(tmp_path / "eye", files)
        (bucket / key_of(2)).unlink()
        first = extract(options(bucket, tmp_path / "store"))
        assert (first["committed"], first["errors"], first["parts"]) == (1, {INCOMPLETE: 1}, 1)
        (record,) = open_reader(str(tmp_path / "store")).errors()
        assert "part 1, 3 of 3 is here, part 2 is missing" in record.failure.message
        assert "1.2.3" not in record.failure.message

        put(bucket, {key_of(2): files[1]})
        then = extract(options(bucket, tmp_path / "store"))
        assert (then["committed"], then["errors"], then["parts"]) == (2, {}, 2)
        np.testing.assert_array_equal(without_notes(rows(tmp_path / "store")[key_of(1)]), whole_rows(tmp_path))

    def test_without_the_first_part_each_is_an_error_row_until_it_comes(self, tmp_path: Path) -> None:
        files = part_files((3, 7))
        bucket = bucket_of(tmp_path / "eye", files)
        (bucket / key_of(1)).unlink()
        first = extract(options(bucket, tmp_path / "store"))
        assert (first["committed"], first["errors"], first["parts"]) == (1, {INCOMPLETE: 2}, 0)
        put(bucket, {key_of(1): files[0]})
        then = extract(options(bucket, tmp_path / "store"))
        assert (then["committed"], then["errors"], then["parts"]) == (2, {}, 2)

    @pytest.mark.parametrize("replaced", [1, 2])
    def test_a_part_that_is_another_object_now_has_the_volume_done_again(self, tmp_path: Path, replaced: int) -> None:
        bucket = bucket_of(tmp_path / "eye", part_files((6,)))
        extract(options(bucket, tmp_path / "store"))
        before = rows(tmp_path / "store")
        changed = layered_volume(12, 40, 36, seed=9)
        new = part_files((6,), voxels=changed, ImageComments=("new", "new"))[replaced - 1]
        put(bucket, {key_of(replaced): new})
        again = extract(options(bucket, tmp_path / "store"))
        assert (again["committed"], again["parts"], again["errors"]) == (2, 1, {})
        after = rows(tmp_path / "store")
        assert [key for key in after if not np.array_equal(after[key], before[key], equal_nan=True)] == [key_of(1)]

    def test_two_first_parts_are_two_error_rows(self, tmp_path: Path) -> None:
        files = part_files((6,))
        bucket = bucket_of(tmp_path / "eye", [*files, files[0]])
        found = extract(options(bucket, tmp_path / "store"))
        assert (found["errors"], found["parts"]) == ({INCOMPLETE: 2}, 1)
        assert set(errors(tmp_path / "store")) == {key_of(1), key_of(3)}

    def test_a_header_longer_than_the_first_look_is_read_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parts_module, "HEAD_BYTES", 600)
        found = extract(options(bucket_of(tmp_path / "eye", part_files((6,))), tmp_path / "store"))
        assert (found["committed"], found["parts"], found["errors"]) == (2, 1, {})

    def test_a_part_that_cannot_be_fetched_is_tried_again_by_retry(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket = bucket_of(tmp_path / "eye", part_files((6,)))
        with monkeypatch.context() as patch:
            for name in ("fetch", "fetch_range"):
                real = getattr(FolderSource, name)

                def refuse(self: FolderSource, wanted: Any, *span: int, real: Any = real) -> Any:
                    if wanted.key == key_of(2):
                        raise FetchError("refused")
                    return real(self, wanted, *span)

                patch.setattr(FolderSource, name, refuse)
            found = extract(options(bucket, tmp_path / "store"))
        assert (found["committed"], found["errors"]) == (1, {"FetchError": 2})

        lift_classes(str(tmp_path / "store"), None)
        then = extract(options(bucket, tmp_path / "store"))
        assert (then["committed"], then["parts"], then["errors"]) == (2, 1, {})

    def test_the_command_counts_parts_apart(self, tmp_path: Path, command: Command) -> None:
        bucket = bucket_of(tmp_path / "eye", part_files((6,)))
        done = command(
            *("extract-embeddings", "--bucket", bucket, "--store", tmp_path / "store", "--encoder", "random:tiny"),
            *("--image-size", IMAGE_SIZE, "--tokens", "none", "--device", "cpu", "--min-coverage", "1", "--json"),
        )
        assert done.code == 0, done.stderr
        assert (done.json["committed"], done.json["parts"], done.json["errors"]) == (2, 1, {})
        assert "1 are further parts of volumes in several files" in done.stderr
        status = command("extract-embeddings", "status", "--store", tmp_path / "store")
        assert "1 are further parts" in status.stdout
        assert command("extract-embeddings", "retry", "--store", tmp_path / "store", "--classes", "all").code == 0
        assert store_status(open_reader(str(tmp_path / "store")))["parts"] == 1

    def test_the_doctor_takes_a_further_part_for_no_failure(self, tmp_path: Path) -> None:
        source = FolderSource(bucket_of(tmp_path / "eye", part_files((6,))))
        report, samples = examine_volumes(
            source, list_volumes(source).refs, 3, Recipe(PRESETS["pretrain"], (8, 32, 32)), None
        )
        assert (len(samples.images), report.figures["sample_errors"]) == (2, {})

    def test_pages_see_the_joined_volume(self, tmp_path: Path) -> None:
        source = FolderSource(bucket_of(tmp_path / "eye", part_files((6,))))
        (ref,) = [ref for ref in list_volumes(source).refs if ref.key == key_of(1)]
        assert fetch_scan(source, ref).volume.frame_count == 12


@pytest.fixture
def served(tmp_path: Path, s3_credentials: Callable[[str, str], None]) -> Iterator[str]:
    with rclone_s3(tmp_path / "buckets") as (endpoint, access_key, secret_key):
        s3_credentials(access_key, secret_key)
        yield endpoint


@pytest.mark.s3
@pytest.mark.parametrize("mode", ["on", "off"])
def test_parts_behind_s3(tmp_path: Path, served: str, mode: str) -> None:
    bucket_of(tmp_path / "buckets" / "eye", part_files((3, 7)))
    found = extract(options(Path("eye"), tmp_path / "store", endpoint_url=served, partial_reads=mode))
    assert (found["committed"], found["parts"], found["errors"]) == (2, 2, {})
    np.testing.assert_array_equal(without_notes(rows(tmp_path / "store")[key_of(1)]), whole_rows(tmp_path))


class TestOneFile:
    """The commands that read one file join it with the others of its folder, whatever these are called."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number, data in enumerate(part_files((3, 7), in_jpeg_ls), start=1):
            (tmp_path / f"export {4 - number}.dcm").write_bytes(data)
        (tmp_path / "other.dcm").write_bytes(part_files((6,), ConcatenationUID=("1.9", "1.9"))[0])
        (tmp_path / "whole.dcm").write_bytes(in_jpeg_ls(WHOLE, Modality="OPT"))
        for name, data in (("empty.dcm", b""), ("notes.txt", b"hello"), ("cut.dcm", bytes(128) + b"DICM\2\0")):
            (tmp_path / name).write_bytes(data)
        (tmp_path / "folder.dcm").mkdir()
        return tmp_path

    @pytest.mark.parametrize("chosen", [1, 2, 3])
    def test_any_part_gives_the_input_and_the_tokens_of_the_whole(
        self, folder: Path, command: Command, chosen: int
    ) -> None:
        def run(verb: str, name: str) -> np.ndarray:
            out = folder / "out.npy"
            more = ("--encoder", "random:tiny", "--device", "cpu") if verb == "encode" else ()
            done = command("extract-embeddings", verb, folder / name, "--image-size", IMAGE_SIZE, "--out", out, *more)
            assert done.code == 0, done.stderr
            assert ("joined from 3 parts" in " ".join(done.stderr.split())) == (name != "whole.dcm")
            return np.load(out)

        for verb in ("preprocess", "encode"):
            np.testing.assert_array_equal(run(verb, f"export {chosen}.dcm"), run(verb, "whole.dcm"))

    def test_what_is_missing_is_said(self, folder: Path, command: Command) -> None:
        (folder / "export 2.dcm").unlink()
        for name, words in (
            ("export 1.dcm", "part 1, 3 of 3 is here, part 2 is missing"),
            ("other.dcm", "part 1 of 2 is here, part 2 is missing"),
        ):
            done = command("extract-embeddings", "preprocess", folder / name, "--out", folder / "out.npy")
            assert (done.code, words in " ".join(done.stderr.split())) == (1, True), done.stderr
            assert "put all its parts into one folder" in " ".join(done.stderr.split())
            assert not (folder / "out.npy").exists()
