"""--dry-run: the sums that it tells, that it times a few volumes, and that it writes nothing."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embeddings_store.command_line import parse_words
from embeddings_store.errors import UsageError
from extract.bucket.prices import price_reading
from extract.dry_run import describe_plan, plan_run
from extract.encoder.architecture import Architecture
from extract.encoder.random_init import ARCHITECTURES
from extract.options import ExtractOptions
from extract.phantom.bucket import generate
from extract.phantom.plan import parse_plan

CIRRUS, TRITON = "zeiss_cirrus", "topcon_triton"
SIZES = {
    f"retinal_oct/structural_oct/{CIRRUS}/1001/1001_cirrus_mac_oct_l_1.1.dcm": 100,
    f"retinal_oct/structural_oct/{CIRRUS}/4001/4001_cirrus_mac_oct_r_1.2.dcm": 300,
    f"retinal_oct/structural_oct/{TRITON}/4001/4001_triton_macula_6x6_oct_r_1.3.dcm": 5000,
    ".DS_Store": 1,
}


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    for key, size in SIZES.items():
        (tmp_path / "bucket" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket" / key).write_bytes(b"x" * size)
    return tmp_path / "bucket"


def options(bucket: Path, **changed: Any) -> ExtractOptions:
    usual = {"store": str(bucket.parent / "store"), "encoder": "random:tiny", "tokens": "none"}
    return parse_words(ExtractOptions, bucket=str(bucket), **{**usual, **changed})


def test_the_sums(bucket: Path) -> None:
    before = sorted(bucket.parent.rglob("*"))
    plan = plan_run(options(bucket))
    assert sorted(bucket.parent.rglob("*")) == before
    assert (plan["listed"], plan["selected"], plan["bytes"], plan["get_requests"]) == (4, 3, 5400, 3)
    assert plan["skipped_reasons"] == {"hidden file": 1}
    assert plan["volumes"] == [
        {"device": TRITON, "protocol": "triton_macula_6x6", "volumes": 1},
        {"device": CIRRUS, "protocol": "cirrus_mac", "volumes": 2},
    ]
    assert plan["store_bytes"] == 3 * plan["row_bytes"]
    assert "not measured" in plan["transfer_s"]["rate"]
    (work,) = plan["encoders"]
    assert work["needs"]["line_mb_per_second"] == pytest.approx(
        work["needs"]["volumes_per_second"] * 1800 / 1e6, rel=0.01
    )


def test_a_few_volumes_say_how_many_cores_a_device_needs(tmp_path: Path) -> None:
    kinds = parse_plan(
        participants=3, devices=("zeiss_cirrus",), protocols=(), scale=0.03, syntax="explicit", effect_um=8.0,
        effect_sector=None, confound=None, schema="v2", manifest=False, breaks=(), kinds=(), seed=1,
    )  # fmt: skip
    generate(kinds, tmp_path / "bucket", 1, lambda: None)
    before = sorted(tmp_path.rglob("*"))
    plan = plan_run(options(tmp_path / "bucket", image_size="16,64,64"))
    assert sorted(tmp_path.rglob("*")) == before
    assert (plan["selected"], plan["get_requests"]) == (6, 6)
    (work,) = plan["encoders"]
    assert (work["timed"]["tried"], work["timed"]["through"]) == (3, 3)
    assert set(work["timed"]["stage_seconds"]) == {"fetch", "decode", "preprocess"}
    assert work["needs"]["cores"] >= 1
    told = describe_plan(plan)
    assert "timed here, one after the other: 3 of 3 volumes of 0." in told
    assert re.search(r"needs [\d,]+ cores and a line of [\d,]+ MB/s .*; this machine has \d+ cores", told)


def test_tokens_make_a_larger_store(bucket: Path) -> None:
    assert plan_run(options(bucket, tokens="full"))["row_bytes"] > plan_run(options(bucket))["row_bytes"]


def test_a_selection(bucket: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("4001\n9999\n")
    plan = plan_run(options(bucket, where=f"device={CIRRUS}", participants=tmp_path / "ids"))
    assert (plan["selected"], plan["bytes"]) == (1, 300)
    assert plan["skipped_reasons"] == {"hidden file": 1, "excluded by --where": 1, "excluded by --participants": 1}
    assert plan["listed"] == plan["selected"] + plan["skipped"]


def test_nobody_invited(bucket: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("9999\n")
    with pytest.raises(UsageError, match="got 1 ids of which 0 are among the 2 participants of the bucket"):
        plan_run(options(bucket, participants=tmp_path / "ids"))


def test_prices_of_backblaze() -> None:
    price = price_reading(
        "https://s3.us-west-004.backblazeb2.com", get_requests=25_732, list_requests=26, size_bytes=2 * 10**12
    )
    assert price["requests"] == pytest.approx(25_732 * 4e-7 + 26 * 4e-6, abs=1e-4)
    assert price["download"] == 20_000 / 1000
    assert price["at_most"] == pytest.approx(price["requests"] + price["download"], abs=0.005)
    assert price["source"].startswith("https://www.backblaze.com/")


@pytest.mark.parametrize("endpoint", [None, "https://s3.example.org"])
def test_prices_elsewhere_are_not_made_up(endpoint: str | None) -> None:
    assert price_reading(endpoint, get_requests=1, list_requests=1, size_bytes=1) == {
        "absent": "prices are known for Backblaze B2 endpoints only"
    }


def test_the_words(bucket: Path) -> None:
    told = describe_plan(plan_run(options(bucket)))
    for words in (
        "would encode 3 volumes of 4 objects",
        f"{CIRRUS} cirrus_mac: 2",
        "dollars absent",
        "hidden file 1",
        "5.4 kB in 3",
        "timed: none of 3 volumes came through; failed: ",
        "needs cores: not known, the doctor times volumes and a line of",
    ):
        assert words in told
    assert "1001" not in told


def test_a_disk_that_is_too_small_is_said_before_the_run(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_run(options(bucket))["refusal"] is None
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=1000))
    plan = plan_run(options(bucket, tokens="full", token_dtype="int8"))
    assert "3 rows need" in plan["refusal"]
    assert f"the run would be refused: {plan['refusal']}" in describe_plan(plan)


def test_int8_tokens_take_half_the_room(bucket: Path) -> None:
    int8, float16 = (plan_run(options(bucket, tokens="full", token_dtype=name)) for name in ("int8", "float16"))
    assert 0.5 < int8["row_bytes"] / float16["row_bytes"] < 0.6
    with pytest.raises(UsageError, match="--token-dtype int8: expected tokens to store"):
        options(bucket, token_dtype="int8")


SIDE = (224, 224)
PUBLISHED = {  # image, patch, width, depth, prefix tokens; slices of which ENCODERS.md gives the cost of one, TFLOP
    "vjepa3d": ((64, 384, 384), (4, 16, 16), 768, 12, 0, 1, 4.7),
    "retfound": ((16, *SIDE), (1, 16, 16), 1024, 24, 1, 16, 0.123),
    "dinov2": ((16, *SIDE), (1, 14, 14), 1024, 24, 1, 16, 0.162),
    "octcube": ((60, 256, 256), (3, 16, 16), 1024, 24, 1, 1, 5.7),
    "mirage": ((16, 512, 512), (1, 32, 32), 768, 12, 1, 16, 0.046),
    "vjepa2": ((64, 256, 256), (2, 16, 16), 1024, 24, 0, 1, 11.5),
    "vjepa21": ((64, 384, 384), (2, 16, 16), 768, 12, 0, 1, 15.7),
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_what_a_volume_costs_at_the_published_size(family: str) -> None:
    image, patch, width, depth, prefix, slices, wanted = PUBLISHED[family]
    one = Architecture(family, image, patch, width, depth, width // 64, 4 * width, prefix)
    assert one.flop_per_volume / slices / 1e12 == pytest.approx(wanted, abs=0.05 if wanted > 1 else 5e-4)


def test_each_encoder_of_a_run_says_what_it_costs(bucket: Path, reference: Path) -> None:
    stores, file = [str(bucket.parent / "a"), str(bucket.parent / "b")], reference / "encoders" / "retfound_mae"
    asked = {"encoder": ["retfound", "random:tiny"], "checkpoint": [file / "checkpoint.pth"], "heads": 3}
    plan = plan_run(options(bucket, store=stores, **asked))
    slices, volumes = plan["encoders"]
    assert [(one["store"], one["family"]) for one in (slices, volumes)] == list(
        zip(stores, ("retfound", "vjepa3d"), strict=True)
    )
    tiny = ARCHITECTURES["tiny"].flop_per_volume
    assert volumes["tflop_per_volume"] == pytest.approx(tiny / 1e12, rel=5e-3)
    assert volumes["seconds"] == round(3 * tiny / 100e12, 1)
    said = describe_plan(plan)
    assert f"vjepa3d: {volumes['tflop_per_volume']:.3g} TFLOP a volume" in said
    assert "stated, not measured: 100 TFLOP/s" in said


def test_views_are_passes_too(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.dry_run.STATED_FLOP_PER_S", 1e9)
    flop = ARCHITECTURES["tiny"].flop_per_volume
    found = [plan_run(options(bucket, views=views))["encoders"][0]["seconds"] for views in (0, 2)]
    assert found == pytest.approx([3 * flop / 1e9, 9 * flop / 1e9], abs=0.06)


def test_each_picture_of_a_volume_is_a_request(tmp_path: Path) -> None:
    for number in range(49):
        (tmp_path / "bucket/P1").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"bucket/P1/{number}.png").write_bytes(b"x" * 1000)
    plan = plan_run(
        options(tmp_path / "bucket", pattern=r"(?P<participant>P\d)", endpoint_url="https://s3.backblazeb2.com")
    )
    assert (plan["selected"], plan["get_requests"]) == (1, 49)
    assert (
        plan["dollars"]["requests"]
        == price_reading("x.backblazeb2.com", get_requests=49, list_requests=1, size_bytes=0)["requests"]
    )
