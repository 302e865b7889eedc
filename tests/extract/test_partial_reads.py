"""Only the header and the touched frames are fetched: the same volume, fewer bytes, and the same errors."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from time import sleep
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from dicom_damage import damage_file
from dicom_files import compress, layered_volume, make_dataset, make_encapsulated, make_file, measures, to_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_object import KEY, Bucket
from pydicom import dcmread
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

import extract.partial.reader as reader_module
from embeddings_store.errors import VolumeError
from embeddings_store.schema import Note
from extract.bucket.source import Fetched, FetchedRange, PartlyFetched, RangeRefused, Wanted
from extract.dicom.frame_ranges import merge_spans
from extract.dicom.reader import read_dicom
from extract.errors import FetchError, error_classes
from extract.partial.reader import VolumeReader, fetch_spans

NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
LOSSLESS = [RLELossless, JPEGLSLossless, JPEG2000Lossless]
KINDS = [*product(NATIVE, ("uint8", "uint16", "int16")), *product(LOSSLESS, ("uint8", "uint16"))]
FRAMES = 40


@pytest.fixture(autouse=True)
def _small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of kilobytes stand for those of megabytes."""
    monkeypatch.setattr(reader_module, "HEAD_BYTES", 1024)
    monkeypatch.setattr(reader_module, "GAP_BYTES", 0)


def every_fifth(count: int) -> Any:
    return np.arange(2, count, 5)


@pytest.fixture
def bucket_of(tmp_path: Path) -> Callable[[bytes], Bucket]:
    return lambda data: Bucket(tmp_path, data)


def read(bucket: Bucket, frames: Any = every_fifth) -> Fetched | PartlyFetched:
    return VolumeReader(bucket, "on", has_room=lambda: True).fetch(bucket.ref, frames)


def assert_same_volume(fetched: Fetched | PartlyFetched, data: bytes, frames: Any = every_fifth) -> None:
    mine, whole = read_dicom(fetched.data, frames=frames), read_dicom(data, frames=frames)
    np.testing.assert_array_equal(mine.voxels, whole.voxels)
    assert mine.voxels.dtype == whole.voxels.dtype
    np.testing.assert_array_equal(mine.frame_numbers, whole.frame_numbers)
    assert mine.facts == whole.facts
    assert mine.rescale == whole.rescale
    assert fetched.size == len(data)


class TestTheSameVolume:
    @pytest.mark.parametrize(("syntax", "dtype"), KINDS, ids=lambda one: getattr(one, "name", one))
    def test_of_every_syntax_and_type(self, bucket_of: Any, syntax: UID, dtype: str) -> None:
        voxels = layered_volume(FRAMES, dtype=dtype)
        data = make_file(voxels, syntax) if syntax in NATIVE else compress(voxels, syntax)
        bucket = bucket_of(data)
        fetched = read(bucket)
        assert isinstance(fetched, PartlyFetched)
        assert_same_volume(fetched, data)
        assert bucket.whole == 0
        assert bucket.counts.bytes < 0.6 * len(data)
        assert bucket.counts.saved_bytes == len(data) - bucket.counts.bytes
        assert bucket.counts.partial_volumes == 1
        assert bucket.counts.extra_requests == bucket.counts.get_requests - 1 == len(bucket.ranges) - 1

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    @given(data=st.data())
    def test_of_any_frames(self, tmp_path: Path, data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(FILES))
        chosen = np.array(sorted(data.draw(st.sets(st.integers(0, FRAMES - 1), min_size=1, max_size=25))))
        bucket = Bucket(tmp_path, file)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader_module, "GAP_BYTES", data.draw(st.sampled_from([0, 1500, 20_000])))
            patch.setattr(reader_module, "HEAD_BYTES", data.draw(st.sampled_from([144, 1024, 9000])))
            assert_same_volume(read(bucket, lambda _: chosen), file, lambda _: chosen)
        assert all(before[1] <= after[0] for before, after in pairwise(bucket.ranges)), "no byte is fetched twice"

    @pytest.mark.parametrize(("table", "per_frame"), [("basic", 1), ("basic", 2), ("extended", 1)])
    def test_by_either_offset_table(self, bucket_of: Any, table: str, per_frame: int) -> None:
        bucket = bucket_of(data := encapsulated_file(table, per_frame))
        fetched = read(bucket)
        assert isinstance(fetched, PartlyFetched)
        assert_same_volume(fetched, data)

    def test_where_8_bit_samples_are_big_endian_words_of_odd_frames(self, bucket_of: Any) -> None:
        voxels = layered_volume(FRAMES, 33, 35)
        dataset = make_dataset(voxels, ExplicitVRBigEndian)
        dataset.PixelData = voxels.reshape(-1).view(np.uint16).byteswap().tobytes()
        dataset["PixelData"].VR = "OW"
        data = to_bytes(dataset)
        fetched = read(bucket_of(data))
        assert isinstance(fetched, PartlyFetched)
        assert_same_volume(fetched, data)
        np.testing.assert_array_equal(read_dicom(fetched.data, frames=every_fifth).voxels, voxels[2::5])

    @pytest.mark.parametrize("encapsulated", [False, True])
    def test_where_something_follows_the_pixels(self, bucket_of: Any, encapsulated: bool) -> None:
        more = {"DataSetTrailingPadding": b"\0" * 3000}
        voxels = layered_volume(FRAMES)
        data = compress(voxels, JPEGLSLossless, **more) if encapsulated else make_file(voxels, **more)
        fetched = read(bucket_of(data))
        assert isinstance(fetched, PartlyFetched)
        assert_same_volume(fetched, data)

    @pytest.mark.parametrize("encapsulated", [False, True])
    def test_where_the_header_is_longer_than_the_first_range(self, bucket_of: Any, encapsulated: bool) -> None:
        groups = {"PerFrameFunctionalGroupsSequence": [measures([0.1, 0.2], 0.3) for _ in range(FRAMES)]}
        voxels = layered_volume(FRAMES, 64, 64)
        data = compress(voxels, JPEGLSLossless, **groups) if encapsulated else make_file(voxels, **groups)
        bucket = bucket_of(data)
        fetched = read(bucket)
        assert isinstance(fetched, PartlyFetched)
        assert_same_volume(fetched, data)
        assert [start for start, _ in bucket.ranges[:2]] == [0, 1024], "the header is not fetched twice"

    def test_where_the_first_range_ends_inside_the_offset_table(
        self, bucket_of: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = compress(layered_volume(FRAMES), JPEGLSLossless)
        for inside in (-2, 3, 60):
            monkeypatch.setattr(reader_module, "HEAD_BYTES", data.index(b"\xfe\xff\x00\xe0") + inside)
            fetched = read(bucket_of(data))
            assert isinstance(fetched, PartlyFetched)
            assert_same_volume(fetched, data)

    def test_where_more_frames_are_stored_than_declared(self, bucket_of: Any) -> None:
        """Surplus bytes may be padding, a longer offset table may name fragments: only the whole file can tell."""
        for data in (make_file(layered_volume(FRAMES), NumberOfFrames=FRAMES - 3), surplus_file()):
            fetched = read(bucket_of(data))
            assert isinstance(fetched, Fetched)
            assert_same_volume(fetched, data)
            assert read_dicom(fetched.data, frames=every_fifth).notes & Note.FRAME_COUNT_DISAGREES

    def test_where_only_a_manifest_named_the_object(self, bucket_of: Any) -> None:
        bucket = bucket_of(data := make_file(layered_volume(FRAMES)))
        bucket.ref = replace(bucket.ref, size=-1, etag="")
        fetched = read(bucket)
        assert isinstance(fetched, PartlyFetched)
        assert_same_volume(fetched, data)


class TestReadWhole:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: make_file(layered_volume(FRAMES), DeflatedExplicitVRLittleEndian),
            lambda: encapsulated_file("none", 1),
            lambda: lying_table(2),
            lambda: compress(layered_volume(FRAMES), RLELossless)[:-9] + b"\0" * 9,
            lambda: make_file(layered_volume(FRAMES), NumberOfFrames=FRAMES + 2),
        ],
        ids=["deflated", "no table", "a table that lies", "no delimiter", "too few frames"],
    )
    def test_what_has_no_plain_ranges(self, bucket_of: Any, make: Callable[[], bytes]) -> None:
        bucket = bucket_of(data := make())
        assert isinstance(fetched := read(bucket), Fetched)
        assert fetched.data == data
        assert bucket.whole == 1
        assert bucket.counts.partial_volumes == 0

    @pytest.mark.parametrize(
        "data",
        [
            make_file(layered_volume(FRAMES), DeflatedExplicitVRLittleEndian),
            make_file(layered_volume(FRAMES), NumberOfFrames=FRAMES + 2),
            b"junk" * 2000,
        ],
        ids=["deflated", "too few frames", "no DICOM"],
    )
    def test_what_the_first_range_shows_to_have_none_costs_no_second(self, bucket_of: Any, data: bytes) -> None:
        bucket = bucket_of(data)
        read(bucket)
        assert bucket.ranges == [(0, 1024)]
        assert (bucket.counts.saved_bytes, bucket.counts.extra_requests) == (-1024, 1)

    def test_a_header_without_end_is_not_looked_for_in_all_of_a_file(
        self, bucket_of: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reader_module, "LONGEST_HEAD_BYTES", 5000)
        dataset = make_dataset(layered_volume(FRAMES))
        dataset.ImageComments = "x" * 9000
        bucket = bucket_of(to_bytes(dataset))
        assert isinstance(read(bucket), Fetched)
        assert bucket.ranges == [(0, 1024), (1024, 4096)]

    def test_where_little_would_be_saved(self, bucket_of: Any) -> None:
        bucket = bucket_of(make_file(layered_volume(FRAMES)))
        for tries, headers in ((1, 1), (2, 2), (3, 3), (4, 3), (5, 3)):
            reader = reader if tries > 1 else VolumeReader(bucket, "on", has_room=lambda: True)
            assert isinstance(reader.fetch(bucket.ref, lambda count: np.arange(0, count - 3)), Fetched)
            assert (bucket.whole, len(bucket.ranges)) == (tries, headers), "then its kind is known"

    def test_where_all_frames_are_needed_or_parts_are_off(self, bucket_of: Any) -> None:
        bucket = bucket_of(make_file(layered_volume(FRAMES)))
        for mode, frames in (("on", None), ("off", every_fifth), ("auto", every_fifth)):
            reader = VolumeReader(bucket, mode, has_room=lambda: True)
            assert {type(reader.fetch(bucket.ref, frames)) for _ in range(20)} == {Fetched}
        assert bucket.ranges == [], "a folder is near: auto is off"

    def test_where_the_server_gives_no_ranges(self, tmp_path: Path) -> None:
        class Stubborn(Bucket):
            def fetch_range(self, wanted: Wanted, start: int, stop: int) -> FetchedRange:
                raise RangeRefused

        bucket = Stubborn(tmp_path, make_file(layered_volume(FRAMES)))
        assert isinstance(read(bucket), Fetched)


class TestErrors:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    @given(data=st.data())
    def test_a_cut_file_ends_as_when_read_whole(self, tmp_path: Path, data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(FILES))
        cut = file[: data.draw(st.integers(0, len(file) - 9))]
        bucket = Bucket(tmp_path, cut)
        fetched = read(bucket)
        assert ending(fetched.data) == ending(cut)

    def test_a_damaged_file_gives_the_volume_or_the_error_that_it_gives_whole(self, tmp_path: Path) -> None:
        """But for damage where nobody looks: what is not fetched cannot spoil a volume."""
        compared = Counter[str]()
        for number in range(400):
            recipe, data = damage_file(FILES[number % len(FILES)], np.random.default_rng([7, number]))
            bucket = Bucket(tmp_path, data)
            fetched = read(bucket)
            whole, parts = ending(data), ending(fetched.data)
            if isinstance(fetched, PartlyFetched) and parts in ERRORS:
                parts = whole  # the loader then reads it whole
            unseen = whole in ERRORS and isinstance(fetched, PartlyFetched)
            assert parts == whole or unseen, (number, recipe)
            compared[f"{type(fetched).__name__} {'refused' if whole in ERRORS else 'used'}"] += 1
        assert compared["PartlyFetched used"] > 50
        assert compared["Fetched refused"] > 50

    def test_a_changed_object(self, bucket_of: Any) -> None:
        bucket = bucket_of(make_file(layered_volume(FRAMES)))
        bucket_of(make_file(layered_volume(FRAMES, seed=1)) + b"\0\0")
        with pytest.raises(FetchError):
            read(bucket)

    def test_an_object_that_changes_between_two_ranges(self, tmp_path: Path) -> None:
        class Changing(Bucket):
            def fetch_range(self, wanted: Wanted, start: int, stop: int) -> FetchedRange:
                found = super().fetch_range(wanted, start, stop)
                (tmp_path / KEY).write_bytes(make_file(layered_volume(FRAMES, seed=len(self.ranges))))
                return found

        with pytest.raises(FetchError, match=r"^[0-9a-f]{16}: expected"):
            read(Changing(tmp_path, make_file(layered_volume(FRAMES))))

    def test_the_first_failure_ends_the_others(self, tmp_path: Path) -> None:
        class Failing(Bucket):
            far = True

            def fetch_range(self, wanted: Wanted, start: int, stop: int) -> FetchedRange:
                if start == 0:
                    raise FetchError("broke off")
                sleep(0.001)
                return super().fetch_range(wanted, start, stop)

        failing = Failing(tmp_path, bytes(9000))
        with pytest.raises(FetchError, match="broke off"):
            fetch_spans(failing, failing.ref, [(place, place + 1) for place in range(1000)])
        assert len(failing.ranges) < 500


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), max_size=12), st.integers(0, 40))
def test_merged_spans_cover_the_same_bytes_and_lie_apart(pairs: list[tuple[int, int]], gap: int) -> None:
    spans = sorted((start, start + length) for start, length in pairs)
    merged = merge_spans(spans, gap)
    assert all(any(a <= start and stop <= b for a, b in merged) for start, stop in spans)
    assert all(after[0] - before[1] > gap for before, after in pairwise(merged))
    assert {edge for span in merged for edge in span} <= {edge for span in spans for edge in span}


def ending(data: Any) -> str:
    """Tell all that a row would hold of a file, its frames by their sum; or the class of its error."""
    try:
        volume = read_dicom(data, frames=every_fifth)
        return f"{volume.facts} {volume.rescale} {crc32(volume.voxels.tobytes())}"
    except VolumeError as error:
        return type(error).__name__


def streams_of(data: bytes) -> list[bytes]:
    from io import BytesIO

    dataset = dcmread(BytesIO(data))
    return list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))


def encapsulated_file(table: str, per_frame: int) -> bytes:
    voxels = layered_volume(FRAMES)
    dataset = make_dataset(voxels)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    streams = streams_of(compress(voxels, JPEGLSLossless))
    if table == "extended":
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            streams
        )
    else:
        dataset.PixelData = encapsulate(streams, fragments_per_frame=per_frame, has_bot=table == "basic")
    dataset["PixelData"].is_undefined_length = True
    return to_bytes(dataset)


def surplus_file() -> bytes:
    voxels = layered_volume(FRAMES)
    streams = streams_of(compress(voxels, JPEGLSLossless))
    return make_encapsulated(streams, voxels[: FRAMES - 3], JPEGLSLossless)


def lying_table(shift: int) -> bytes:
    """One offset of the table points into the middle of a frame."""
    data = bytearray(compress(layered_volume(FRAMES), JPEGLSLossless))
    place = data.index(b"\xfe\xff\x00\xe0") + 8 + 4 * 7
    data[place : place + 4] = (int.from_bytes(data[place : place + 4], "little") + shift).to_bytes(4, "little")
    return bytes(data)


ERRORS = set(error_classes())
FILES = [
    make_file(layered_volume(FRAMES, 31, 33)),
    make_file(layered_volume(FRAMES, 16, 18, "uint16"), ExplicitVRBigEndian),
    make_file(layered_volume(FRAMES, 16, 18, "int16"), ImplicitVRLittleEndian),
    compress(layered_volume(FRAMES, 20, 21), RLELossless),
    compress(layered_volume(FRAMES, 20, 21), JPEGLSLossless),
    encapsulated_file("extended", 1),
    encapsulated_file("none", 1),
]
