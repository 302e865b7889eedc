"""What a manifest says of the objects that a listing has."""

from pathlib import Path

import pytest

from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.bucket.manifest import read_manifest_lines
from extract.errors import BucketError

CIRRUS = "retinal_oct/structural_oct/zeiss_cirrus/1001/1001_cirrus_mac_oct_l_1.2.3.dcm"
TRITON = "retinal_oct/structural_oct/topcon_triton/7001/7001_triton_macula_6x6_oct_oct_r_1.2.4.dcm"
COLUMNS = (
    "manufacturer\tmanufacturers_model_name\tanatomic_region\timaging\tlaterality\theight\twidth\tnumber_of_frames\t"
    "pixel_spacing\tslice_thickness\tsop_instance_uid\tfilepath\treference_instance_uid\treference_filepath"
)


def line(person: str, key: str) -> str:
    scan = "Zeiss\tCirrus\tMacula\tOCT\tL\t1024\t512\t128\tVaries by frame\tNot reported"
    return f"{person}\t{scan}\t1.2.3\t/{key}\t1.2.9\t/retinal_photography/x.dcm"


def write_bucket(root: Path, *keys: str, manifest: str | None = None) -> FolderSource:
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"x")
    if manifest is not None:
        (root / "retinal_oct").mkdir(exist_ok=True)
        (root / "retinal_oct/manifest.tsv").write_text(manifest, encoding="utf-8")
    return FolderSource(root)


@pytest.mark.parametrize("person", ["participant_id", "person_id"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_both_versions_of_the_manifest(person: str, mark: str) -> None:
    text = f"{mark}{person}\t{COLUMNS}\n{line('7001', TRITON)}\n{line('1001', CIRRUS)}\n"
    told = list(read_manifest_lines(text.encode()))
    assert [(one.key, one.participant, one.eye, one.frames) for one in told] == [
        (TRITON, "7001", "L", 128), (CIRRUS, "1001", "L", 128),
    ]  # fmt: skip


def test_the_listing_is_believed_and_a_manifest_that_contradicts_is_counted(tmp_path: Path) -> None:
    text = "\n".join([f"person_id\t{COLUMNS}", line("4001", CIRRUS), line("7001", "gone/x.dcm")])
    listing = list_volumes(write_bucket(tmp_path, CIRRUS, TRITON, manifest=text))
    assert [(ref.key, ref.size) for ref in listing.refs] == [(TRITON, 1)]
    assert listing.skipped["manifest names another participant"] == 1


def test_a_short_line_is_no_crash() -> None:
    (told,) = read_manifest_lines(b"person_id\tfilepath\n1001\n")
    assert (told.key, told.participant) == ("", "1001")


@pytest.mark.parametrize("data", [b"", b"a\tb\n1\t2\n", b"\xff\xfe\x00"])
def test_another_table_is_refused(data: bytes) -> None:
    with pytest.raises(BucketError, match=r"manifest\.tsv: expected"):
        list(read_manifest_lines(data))


def test_without_a_manifest_the_listing_counts_junk(tmp_path: Path) -> None:
    source = write_bucket(tmp_path, CIRRUS, TRITON, ".DS_Store", "x.zip", "participants.tsv")
    (tmp_path / CIRRUS).write_bytes(b"")
    listing = list_volumes(source)
    assert [ref.key for ref in listing.refs] == [TRITON]
    assert listing.listed == 5
    assert listing.skipped == {"empty object": 1, "hidden file": 1, "not a .dcm": 1, "table": 1}
    assert source.counts.list_requests == 1


def test_an_empty_bucket_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(BucketError, match=r"nothing is there; expected retinal_oct/structural_oct/"):
        list_volumes(FolderSource(tmp_path))


def test_a_bucket_of_something_else_says_what_was_seen(tmp_path: Path) -> None:
    source = write_bucket(tmp_path, f"ai-readi/dataset/{CIRRUS}", "notes.txt")
    with pytest.raises(BucketError, match=r"2 objects, none of them a volume \(1 not a \.dcm, 1 not in the layout\)"):
        list_volumes(source)
