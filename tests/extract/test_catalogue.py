"""The catalogue: one listing, kept, believed only when whole; and what it says about the bucket."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platformdirs import user_cache_path

from extract.bucket.catalogue import Catalogue, open_catalogue
from extract.bucket.catalogue_file import BucketRecord, catalogue_path, read_record, write_record
from extract.bucket.folder import FolderSource
from extract.bucket.manifest import ManifestLine
from extract.bucket.participants import Enrolled
from extract.bucket.report import describe_report, report_bucket
from extract.bucket.source import Fetched, ObjectInfo, TransferCounts, Wanted
from extract.errors import BucketError

HOUR_NS = 3_600 * 10**9
TABLE = b"person_id\trecommended_split\tretinal_oct\n1001\ttrain\tTRUE\n4001\tval\tFALSE\n7001\ttest\tTRUE\n"
ROOT = "retinal_oct/structural_oct"
LEFT = f"{ROOT}/zeiss_cirrus/1001/1001_cirrus_mac_oct_l_1.2.3.dcm"
AGAIN = f"{ROOT}/zeiss_cirrus/1001/1001_cirrus_mac_oct_l_1.2.4.dcm"
UNFLAGGED = f"{ROOT}/topcon_triton/4001/4001_triton_new_oct_r_1.2.5.dcm"
STRANGER = f"{ROOT}/topcon_triton/4009/4009_triton_macula_6x6_oct_r_1.2.6.dcm"
JUNK = (".DS_Store", f"{ROOT}/zeiss_cirrus/1001.zip")
MANIFEST = (
    "person_id\tlaterality\tnumber_of_frames\tfilepath\n"
    f"1001\tR\t128\t/{LEFT}\n1001\tL\tmany\t/{AGAIN}\n1001\tL\t1\t/{ROOT}/zeiss_cirrus/1001/1001_gone_oct_l_1.2.dcm\n"
).encode()
OBJECTS = {
    **dict.fromkeys([LEFT, AGAIN, UNFLAGGED, STRANGER, *JUNK], b"x"),
    "participants.tsv": TABLE,
    "retinal_oct/manifest.tsv": MANIFEST,
}


class RemoteSource:
    """A bucket in memory that counts what it is asked for."""

    name = "s3://eye/"

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects, self.counts = objects, TransferCounts()

    def list_objects(self) -> Iterator[ObjectInfo]:
        self.counts.add(list_requests=1)
        return (ObjectInfo(key, len(data), "e") for key, data in self.objects.items())

    def fetch(self, wanted: Wanted) -> Fetched:
        raise AssertionError(f"nothing is fetched for a catalogue: {wanted}")

    def read_optional(self, key: str) -> bytes | None:
        self.counts.add(get_requests=1)
        return self.objects.get(key)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def catalogue_of(source: RemoteSource, *, hours: int = 0, refresh: bool = False, endpoint: str = "") -> Catalogue:
    return open_catalogue(source, now_ns=10**18 + hours * HOUR_NS, endpoint_url=endpoint, refresh=refresh)


def only_file() -> Path:
    (path,) = user_cache_path("octprobe", appauthor=False).rglob("*.sqlite")
    return path


def test_the_second_look_asks_for_no_listing() -> None:
    source = RemoteSource(OBJECTS)
    first, second = catalogue_of(source), catalogue_of(source, hours=5)
    assert (source.counts.list_requests, source.counts.get_requests) == (1, 3)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert (second.record, second.listing) == (first.record, first.listing)
    assert (first.age_s, second.age_s) == (0.0, 5 * 3_600.0)


def test_refresh_and_another_release_list_anew() -> None:
    source = RemoteSource(dict(OBJECTS))
    catalogue_of(source)
    assert not catalogue_of(source, refresh=True).from_cache
    source.objects["participants.tsv"] = TABLE + b"1002\ttrain\tTRUE\n"
    assert not catalogue_of(source).from_cache
    assert catalogue_of(source).from_cache
    assert source.counts.list_requests == 3


def test_each_endpoint_has_its_own() -> None:
    source = RemoteSource(OBJECTS)
    catalogue_of(source, endpoint="https://a")
    assert not catalogue_of(source, endpoint="https://b").from_cache


def test_without_a_table_nothing_proves_that_the_bucket_is_the_same() -> None:
    source = RemoteSource({LEFT: b"x"})
    assert not catalogue_of(source).kept
    assert not catalogue_of(source).from_cache


def test_a_folder_is_walked_every_time(tmp_path: Path) -> None:
    (tmp_path / "b" / LEFT).parent.mkdir(parents=True)
    (tmp_path / "b" / LEFT).write_bytes(b"x")
    (tmp_path / "b/participants.tsv").write_bytes(TABLE)
    for _ in range(2):
        assert not open_catalogue(FolderSource(tmp_path / "b"), now_ns=0).from_cache
    assert not user_cache_path("octprobe", appauthor=False).exists()


def test_a_bucket_without_volumes_is_not_kept() -> None:
    with pytest.raises(BucketError, match="none of them a volume"):
        catalogue_of(RemoteSource({"participants.tsv": TABLE}))
    assert not list(user_cache_path("octprobe", appauthor=False).rglob("*"))


def test_a_damaged_catalogue_is_rebuilt() -> None:
    source = RemoteSource(OBJECTS)
    whole = catalogue_of(source)
    good = only_file().read_bytes()
    flipped = good.replace(b"1001_cirrus_mac_oct_l_1.2.3", b"1001_cirrus_mac_oct_l_1.2.9")
    assert flipped != good
    for damaged in (b"", b"no database", good[: len(good) // 2], flipped):
        only_file().write_bytes(damaged)
        again = catalogue_of(source)
        assert not again.from_cache
        assert again.record == whole.record
    assert catalogue_of(source).from_cache


def test_a_catalogue_of_another_format_is_not_trusted() -> None:
    source = RemoteSource(OBJECTS)
    catalogue_of(source)
    with closing(sqlite3.connect(only_file())) as database:
        database.execute("UPDATE about SET format = 'octprobe catalogue 0'")
        database.commit()
    assert not catalogue_of(source).from_cache


def test_a_cache_that_cannot_be_written_only_costs_a_listing(tmp_path: Path) -> None:
    (tmp_path / "xdg").write_bytes(b"in the way")
    assert not catalogue_of(RemoteSource(OBJECTS)).kept


def test_nothing_half_written_and_nobody_else_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue_of(RemoteSource(OBJECTS))
    assert only_file().stat().st_mode & 0o077 == 0
    monkeypatch.setattr("extract.bucket.catalogue_file._lines", lambda _: {})
    with pytest.raises(KeyError):
        catalogue_of(RemoteSource(OBJECTS), refresh=True)
    assert [path.suffix for path in only_file().parent.iterdir()] == [".sqlite"]


def test_nothing_clinical_is_kept() -> None:
    table = b"person_id\tstudy_group\tage\trecommended_split\tretinal_oct\n1001\tinsulin_dependent\t61\ttrain\tTRUE\n"
    catalogue_of(RemoteSource({**OBJECTS, "participants.tsv": table}))
    assert b"insulin" not in only_file().read_bytes()


texts = st.text(st.characters(blacklist_categories=["Cs"]))
numbers = st.integers(-1, 2**62)


@settings(max_examples=25)
@given(
    st.lists(st.builds(ObjectInfo, texts, numbers, texts)),
    st.none() | st.lists(st.builds(ManifestLine, texts, texts, texts, numbers)).map(tuple),
    st.lists(st.builds(Enrolled, texts, texts, st.booleans())),
)
def test_a_record_comes_back_as_it_was(
    objects: list[ObjectInfo], manifest: tuple[ManifestLine, ...] | None, people: list[Enrolled]
) -> None:
    record = BucketRecord(7, "token", tuple(objects), manifest, tuple(people))
    write_record(catalogue_path("place"), record)
    assert read_record(catalogue_path("place")) == record


def test_the_report() -> None:
    catalogue = catalogue_of(RemoteSource(OBJECTS))
    report = report_bucket(catalogue)
    assert report == {
        "participants_with_files": 3,
        "promised_without_files": 1,
        "files_without_promise": 1,
        "files_without_participant": 1,
        "duplicate_scans": 1,
        "laterality_disagreements": 1,
        "in_manifest_only": 1,
        "not_in_manifest": 2,
        "unknown_protocols": {"triton_new": 1},
        "junk": 2,
    }
    told = describe_report(report, 3 * 86_400.0, from_cache=True)
    assert "3 days ago" in told
    assert "--refresh" in told
    assert "triton_new 1" in told
    assert "1001" not in told
    assert [catalogue.frames(key) for key in (LEFT, AGAIN, STRANGER)] == [128, -1, -1]


def test_what_no_table_tells_is_not_counted() -> None:
    report = report_bucket(catalogue_of(RemoteSource({LEFT: b"x"})))
    unknown = {name for name, count in report.items() if count is None}
    assert unknown == {
        *("promised_without_files", "files_without_promise", "files_without_participant"),
        *("laterality_disagreements", "in_manifest_only", "not_in_manifest"),
    }
    assert describe_report(report, 0.0, from_cache=False) == "bucket listed now; its tables and files agree"


def test_a_table_in_other_columns_stops_nothing() -> None:
    source = RemoteSource({LEFT: b"x", "participants.tsv": b"subject\tgroup\n1\t2\n"})
    assert report_bucket(catalogue_of(source))["promised_without_files"] is None
    assert catalogue_of(source).from_cache


def test_a_listing_older_than_a_day_is_made_anew_and_both_ages_are_said() -> None:
    source = RemoteSource(OBJECTS)
    catalogue_of(source)
    source.objects = OBJECTS | {f"{ROOT}/zeiss_cirrus/7001/7001_cirrus_mac_oct_l_1.2.9.dcm": b"x"}
    kept, anew = catalogue_of(source, hours=24), catalogue_of(source, hours=25)
    assert (kept.from_cache, anew.from_cache, source.counts.list_requests) == (True, False, 2)
    assert len(anew.listing.refs) == len(kept.listing.refs) + 1
    assert anew.replaced_age_s == 25 * 3600
    told = describe_report(report_bucket(anew), anew.age_s, from_cache=False, replaced_age_s=anew.replaced_age_s)
    assert told.startswith("bucket listed anew, as the kept listing was 25 hours old;")
    again = describe_report(report_bucket(kept), kept.age_s, from_cache=True)
    assert again.startswith("bucket listed 24 hours ago (listed anew after 24 hours, or with --refresh);")
    assert catalogue_of(source, hours=25).from_cache
    assert not catalogue_of(source, hours=1).from_cache, "a listing of the future would never grow old"


def test_what_lies_there_is_what_is_used() -> None:
    record = catalogue_of(RemoteSource(OBJECTS)).record
    write_record(only_file(), replace(record, listed_at_ns=record.listed_at_ns - 5))
    assert catalogue_of(RemoteSource(OBJECTS)).record.listed_at_ns == record.listed_at_ns - 5


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            b"subject\tgroup\n1\t2\n",
            "expected a header with participant_id or person_id, got subject, group; the",
        ),
        (TABLE.replace(b"retinal_oct", b"Recommended Split"), "got it as columns 2 and 3; delete or rename one; the"),
        (TABLE + b"\x81\x8d\n", "in line 5 a byte of no known text encoding"),
        (TABLE.replace(b"1001", b"1\x00\x001", 1), "a zero byte in line 2"),
        (TABLE.replace(b"\t", b";").replace(b";", b"\t", 2), "several cells, cut by another separator than the header"),
        (TABLE.decode().encode("utf-16-be"), "the file was read as UTF-16-BE"),
        (TABLE.replace(b"TRUE\n", b"TRUE\t\n"), "2 lines end in separators that the header lacks"),
    ],
)
def test_what_is_odd_in_the_table_of_a_bucket_is_said_at_every_start(table: bytes, said: str) -> None:
    source = RemoteSource({**OBJECTS, "participants.tsv": table})
    for _ in range(2):
        (note,) = catalogue_of(source).notes
        assert note.startswith("participants.tsv of the bucket")
        assert said in note
    assert "\n" not in note
    absent = "counts as absent" in note
    assert (report_bucket(catalogue_of(source))["promised_without_files"] is None) == absent
