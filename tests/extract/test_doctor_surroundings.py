"""The doctor on buckets, stores, decoders and exports: what fails is one check, and nothing is left behind."""

import json
from pathlib import Path
from typing import Any

import pytest
from dicom_files import layered_volume, make_file
from obstore.store import MemoryStore

from embeddings_store.command_line import parse_words
from embeddings_store.errors import StoreError, UsageError
from embeddings_store.layout import create_layout
from embeddings_store.schema import VolumeRef, volume_id
from embeddings_store.storage import Storage, open_storage
from extract.bucket.source import ObjectInfo
from extract.doctor.bucket import spread
from extract.doctor.decoders import SYNTAXES, examine_decoders
from extract.doctor.options import DoctorOptions
from extract.doctor.report import Check, Examination, Report, Status, measured
from extract.doctor.run import examine
from extract.doctor.show import print_report, verdict
from extract.doctor.store import try_writing
from extract.encode import build_space
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.random_init import random_encoder
from extract.errors import BucketError
from extract.layouts.ai_readi import parse_object
from extract.preset import load_preset

UID = "1.2.840.99999.7"
SIZE = (8, 32, 32)


def silent(_: str) -> None:
    """Stand in for the terminal."""


def key_of(number: int) -> str:
    name = f"{1000 + number}_spectralis_ppol_mac_hr_oct_l_{UID}.{number}.dcm"
    return f"retinal_oct/structural_oct/heidelberg_spectralis/{1000 + number}/{name}"


def fill(bucket: Path, good: int, bad: int = 0) -> Path:
    for number in range(good + bad):
        path = bucket / key_of(number)
        path.parent.mkdir(parents=True)
        path.write_bytes(make_file(layered_volume(seed=number)) if number < good else b"no DICOM")
    return bucket


def examined(**options: Any) -> Report:
    chosen: dict[str, Any] = {"encoder": "random:tiny", "image_size": SIZE, "device": "cpu"} | options
    return examine(parse_words(DoctorOptions, **chosen), silent)


def statuses(report: Report) -> dict[str, Status]:
    return {check.name: check.status for check in report.checks}


def message_of(report: Report, name: str) -> str:
    return next(check.message for check in report.checks if check.name == name)


def test_a_bucket_is_listed_and_a_few_volumes_go_through_every_stage(tmp_path: Path) -> None:
    report = examined(bucket=str(fill(tmp_path / "bucket", good=5)), volumes=3)
    found = statuses(report)
    assert [found[name] for name in ("bucket", "volumes", "stages", "effective rank")] == [Status.OK] * 4
    assert report.figures["volumes"] == 5
    assert report.figures["sample_volumes"] == 3
    assert report.figures["sample_volume"] == volume_id(key_of(0))
    assert {*report.figures["stage_seconds"]} == {"fetch", "decode", "preprocess", "encode"}
    assert message_of(report, "stages").startswith("median of 3 volumes of ")
    assert report.figures["needs"]["cores"] >= 1
    assert message_of(report, "feeding").startswith("one device at ")
    assert report.figures["list_keys_per_second"] > 0
    assert report.figures["bytes_per_second_per_stream"] > 0
    assert 1 <= report.figures["effective_rank"] <= 2


def test_no_name_of_a_file_is_told(tmp_path: Path) -> None:
    report = examined(bucket=str(fill(tmp_path / "bucket", good=1, bad=2)), volumes=3)
    assert UID not in json.dumps(report.to_dict())


def test_unreadable_volumes_are_told_with_their_reason(tmp_path: Path) -> None:
    report = examined(bucket=str(fill(tmp_path / "bucket", good=2, bad=2)), volumes=4)
    assert statuses(report)["volumes"] == Status.WARN
    assert report.figures["sample_errors"] == {"NotDicom": 2}
    assert "expected a DICOM file" in message_of(report, "volumes")
    assert not report.failed


def test_a_bucket_without_one_readable_volume_fails(tmp_path: Path) -> None:
    report = examined(bucket=str(fill(tmp_path / "bucket", good=0, bad=3)))
    assert report.named(Status.FAIL) == ["volumes"]
    assert "at least 2 volumes, got 0" in report.absent["twin_cka"]


def test_a_bucket_that_is_not_there_fails_and_the_others_go_on(tmp_path: Path) -> None:
    report = examined(bucket=str(tmp_path / "none"), store=str(tmp_path / "store"))
    assert report.named(Status.FAIL) == ["bucket"]
    assert statuses(report)["store"] == Status.OK


def test_without_an_encoder_the_bucket_is_examined_alone(tmp_path: Path) -> None:
    report = examined(encoder=None, bucket=str(fill(tmp_path / "bucket", good=2)))
    assert {*report.figures["stage_seconds"]} == {"fetch", "decode", "preprocess"}
    assert {"effective_rank", "effective_rank_tokens", "twin_cka", "needs"} <= {*report.absent}
    assert "encoder" not in statuses(report)


def test_what_was_not_asked_for_is_no_check() -> None:
    assert {*statuses(examined(encoder=None))} == {"versions", "decoders", "device", "parity"}


def test_samples_are_spread_over_the_listing() -> None:
    parsed = (parse_object(ObjectInfo(key_of(number), 1, "")) for number in range(10))
    refs = [ref for ref in parsed if isinstance(ref, VolumeRef)]
    assert [refs.index(ref) for ref in spread(refs, 4)] == [0, 3, 6, 9]
    assert spread(refs, 1) == refs[:1]
    assert spread(refs[:2], 4) == refs[:2]


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    report = examined(store=str(tmp_path / "deep" / "store"))
    assert statuses(report)["store"] == Status.OK
    assert "no store is there yet" in message_of(report, "store")
    assert report.figures["store_free_bytes"] > 0
    assert [*tmp_path.iterdir()] == []


def test_a_store_below_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    report = examined(store=str(tmp_path / "file" / "store"))
    assert report.named(Status.FAIL) == ["store"]
    assert "is a file" in message_of(report, "store")


@pytest.mark.parametrize(("precision", "expected"), [("fp32", Status.OK), ("bf16", Status.FAIL)])
def test_the_space_of_a_store_is_compared(tmp_path: Path, precision: str, expected: Status) -> None:
    encoder = random_encoder("random:tiny", SIZE)
    preset = load_preset("pretrain").to_dict()
    space = build_space(encoder, preset, layers=("2", "last"), pools=("mean",), token_grid=None, precision="fp32")
    create_layout(open_storage(str(tmp_path / "store"), create=True), space, 100)
    before = sorted(tmp_path.rglob("*"))
    report = examined(store=str(tmp_path / "store"), precision=precision)
    assert statuses(report)["store"] == Status.OK
    assert statuses(report)["space"] == expected
    assert ("precision: fp32 here, bf16 there" in message_of(report, "space")) == (expected == Status.FAIL)
    assert sorted(tmp_path.rglob("*")) == before


class Forgetful(Storage):
    """A place that takes everything and gives other bytes back."""

    def get(self, path: str) -> memoryview | None:
        found = super().get(path)
        return None if found is None else memoryview(b"other")


def test_a_place_that_gives_other_bytes_back_is_found_and_left_clean() -> None:
    objects = MemoryStore()
    with pytest.raises(StoreError, match="expected to read back what was written"):
        try_writing(Forgetful("memory", objects))
    assert Storage("memory", objects).list_paths("") == []
    try_writing(Storage("memory", objects))
    assert Storage("memory", objects).list_paths("") == []


def test_every_transfer_syntax_of_the_data_has_a_decoder() -> None:
    report, _ = examine_decoders()
    assert report.status == Status.OK
    assert {*report.figures["decoders"]} == {*SYNTAXES}
    assert report.figures["decoders"]["explicit VR"] == ["none needed"]
    assert "pylibjpeg" in report.figures["decoders"]["JPEG 2000 lossless"]


def test_the_export_is_the_encoder(tmp_path: Path) -> None:
    out = tmp_path / "encoder.safetensors"
    report = examined(export=out)
    assert statuses(report)["export"] == Status.OK
    assert load_checkpoint(out).weights_sha256 == report.figures["weights_sha256"]
    assert [*tmp_path.iterdir()] == [out]


def test_an_export_that_cannot_be_written_fails_and_leaves_nothing(tmp_path: Path) -> None:
    report = examined(export=tmp_path / "none" / "encoder.safetensors")
    assert report.named(Status.FAIL) == ["export"]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checkpoint": Path("a.pt"), "encoder": "random:tiny"}, "got both"),
        ({"encoder": "random:tiny", "heads": 3}, "belong to --checkpoint"),
        ({"encoder": "random:tiny", "which": "target"}, "belong to --checkpoint"),
        ({"volumes": 0}, "from 1"),
        ({"image_size": "64,384"}, "three voxel counts"),
        ({"export": Path("x.safetensors")}, "needs an encoder"),
        ({"encoder": "random:tiny", "export": Path("x.pt")}, r"ends in \.safetensors"),
        ({"checkpoint": Path("x.safetensors"), "export": Path("./x.safetensors")}, "another file than the checkpoint"),
    ],
)
def test_wrong_words_are_wrong_usage(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_words(DoctorOptions, **options)


def test_an_unknown_random_encoder_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="random:huge"):
        examined(encoder="random:huge")


def test_a_part_that_cannot_go_on_is_a_failed_check() -> None:
    heard: list[str] = []
    visit = Examination(heard.append)

    def refuse() -> tuple[Report, int]:
        raise BucketError("no such bucket")

    assert visit.attempt("bucket", refuse) is None
    assert visit.attempt("other", lambda: (measured({"n": 1}), 7)) == 7
    assert visit.report.checks == (Check("bucket", Status.FAIL, "no such bucket"),)
    assert visit.report.figures == {"n": 1}
    assert len(heard) == 2


def test_the_worst_check_is_the_verdict() -> None:
    checks = [Check(status.value, status, "words") for status in (Status.OK, Status.WARN, Status.FAIL)]
    assert verdict(Report(tuple(checks))) == (
        "verdict: fail; 1 failed (fail), 1 to look at (warn), 1 of 3 checks are fine"
    )
    assert Report(tuple(checks[:2])).status == Status.WARN
    assert not Report(tuple(checks[:2])).failed
    assert verdict(Report(tuple(checks[:1]))) == "verdict: ok; 1 of 1 checks are fine"


def test_numbers_that_are_none_are_absent_with_a_reason() -> None:
    report = measured({"a": 1.5, "b": None, "c": float("nan")}, {"b": "nobody knows"})
    assert report.figures == {"a": 1.5}
    assert report.absent == {"b": "nobody knows", "c": "the number is nan"}


def test_the_table_says_everything_in_words_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    checks = (Check("store", Status.FAIL, "got [1, 2]"), Check("bucket", Status.OK, "fine"))
    print_report(Report(checks, {"loss": 0.25, "skipped": {}}, {"step": "the file does not say"}))
    written = capsys.readouterr()
    lines = [line.split() for line in written.err.splitlines()]
    assert written.out == ""
    assert ["fail", "store", "got", "[1,", "2]"] in lines
    assert ["ok", "bucket", "fine"] in lines
    assert ["loss", "0.25"] in lines
    assert ["step", "absent:", "the", "file", "does", "not", "say"] in lines
    assert written.err.splitlines()[-1].startswith("verdict: fail; 1 failed (store)")
