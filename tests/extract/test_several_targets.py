"""Several encoders in one pass: each volume is fetched and decoded once, and every store gets its own rows."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from small_bucket import assert_same_rows, errors, fill_bucket, key_of, options, rows

from embeddings_store.command_line import parse_words
from embeddings_store.errors import UsageError
from embeddings_store.reader import open_reader
from extract.bucket.folder import FolderSource
from extract.bucket.source import Fetched, Wanted
from extract.dry_run import plan_run
from extract.encode import BatchEncoder
from extract.errors import NotFinite
from extract.options import ExtractOptions
from extract.pipeline import extract
from extract.summary import describe_summary, store_accounts

VOLUMES = 6


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return fill_bucket(tmp_path / "bucket", VOLUMES)


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in ("a", "b", "c")]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is fetched, decoded and resized."""
    counts = Counter[str]()
    from extract import load, scan

    fetch, read, resize = FolderSource.fetch, scan.read_dicom, load.preprocess_and_measure

    def count_fetch(self: FolderSource, wanted: Wanted) -> Fetched:
        counts["fetch"] += wanted.key.endswith(".dcm")
        return fetch(self, wanted)

    def count_decode(*given: Any, **named: Any) -> Any:
        counts["decode"] += 1
        return read(*given, **named)

    def count_resize(*given: Any) -> Any:
        counts["resize"] += 1
        return resize(*given)

    monkeypatch.setattr(FolderSource, "fetch", count_fetch)
    monkeypatch.setattr(scan, "read_dicom", count_decode)
    monkeypatch.setattr(load, "preprocess_and_measure", count_resize)
    return counts


def test_three_encoders_cost_one_fetch_one_decode_and_one_resize_a_volume(
    bucket: Path, stores: list[Path], work: Counter[str]
) -> None:
    summary = extract(options(bucket, *stores))
    assert work == {"fetch": VOLUMES, "decode": VOLUMES, "resize": VOLUMES}
    assert [account["committed"] for account in summary["stores"]] == [VOLUMES] * 3
    assert len({account["space"] for account in summary["stores"]}) == 3
    assert [account["store"] for account in summary["stores"]] == [str(store) for store in stores]
    assert "committed" not in summary
    assert summary["volumes_per_second"] == pytest.approx(VOLUMES / summary["seconds"]["wall"], rel=0.01)
    assert describe_summary(summary).count("volumes have a row") == 3


def test_the_rows_are_those_of_a_pass_of_each_encoder_alone(bucket: Path, stores: list[Path], tmp_path: Path) -> None:
    extract(options(bucket, *stores))
    for number, store in enumerate(stores):
        alone = tmp_path / f"alone-{number}"
        extract(options(bucket, alone, encoder=f"random:tiny,seed={number}"))
        assert len(rows(alone)) == VOLUMES
        assert_same_rows(store, alone)


def test_sizes_that_differ_share_the_decoding(
    bucket: Path, tmp_path: Path, work: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command has one --image-size, but checkpoints bring sizes of their own."""
    from extract import targets

    sizes = iter([(8, 32, 32), (4, 16, 16), (8, 32, 32)])
    open_encoder = targets.open_encoder
    monkeypatch.setattr(targets, "open_encoder", lambda **given: open_encoder(**(given | {"image_size": next(sizes)})))
    together = [tmp_path / name for name in ("a", "b", "c")]
    extract(options(bucket, *together, tokens="none"))
    assert work == {"fetch": VOLUMES, "decode": VOLUMES, "resize": 2 * VOLUMES}
    monkeypatch.undo()
    for store, size, seed in ((together[0], "8,32,32", 0), (together[1], "4,16,16", 1)):
        alone = tmp_path / f"alone-{seed}"
        extract(options(bucket, alone, encoder=f"random:tiny,seed={seed}", image_size=size, tokens="none"))
        mine, theirs = (open_reader(str(place)) for place in (store, alone))
        assert (mine.pooled(range(VOLUMES)) == theirs.pooled(range(VOLUMES))).all()
        assert mine.facts(range(VOLUMES)).equals(theirs.facts(range(VOLUMES)))


def test_a_store_that_lacks_nothing_gets_nothing(bucket: Path, stores: list[Path], work: Counter[str]) -> None:
    extract(options(bucket, stores[0]))
    extract(options(bucket, stores[1], encoder="random:tiny,seed=1", limit=4))
    work.clear()
    summary = extract(options(bucket, *stores[:2]))
    assert [account["already_done"] for account in summary["stores"]] == [VOLUMES, 4]
    assert [account["committed"] for account in summary["stores"]] == [VOLUMES, VOLUMES]
    assert work == {"fetch": 2, "decode": 2, "resize": 2}


def test_a_volume_that_cannot_be_read_is_an_error_row_in_each_store(bucket: Path, stores: list[Path]) -> None:
    (bucket / key_of(2)).write_bytes(b"no DICOM")
    summary = extract(options(bucket, *stores))
    for store, account in zip(stores, store_accounts(summary), strict=True):
        assert errors(store) == {key_of(2): ("decode", "NotDicom")}
        assert account["errors"] == {"NotDicom": 1}
        assert len(rows(store)) == VOLUMES - 1


def test_what_one_encoder_makes_of_a_volume_is_its_own_affair(
    bucket: Path, stores: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = BatchEncoder.collect
    broken: list[BatchEncoder] = []

    def overflow(self: BatchEncoder, submitted: Any) -> Any:
        broken.append(self)
        if self is broken[0]:
            raise NotFinite("pooled vectors are not finite")
        return collect(self, submitted)

    monkeypatch.setattr(BatchEncoder, "collect", overflow)
    summary = extract(options(bucket, *stores))
    failed = sorted(sum(account["errors"].values()) for account in store_accounts(summary))
    assert failed == [0, 0, VOLUMES]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"store": ["a", "b"], "encoder": "random:tiny"}, r"--store: expected 1, one for each of random:tiny .* got 2"),
        ({"store": "a", "encoder": ["random:tiny"], "checkpoint": [Path("x.pt")]}, r"expected 2, .* x.pt, random:tiny"),
        ({"store": ["a", "a/"], "encoder": ["random:tiny", "random:base"]}, "a store of its own"),
        ({"store": "a"}, "at least one encoder"),
    ],
)
def test_stores_and_encoders_belong_together(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_words(ExtractOptions, bucket="b", **changed)


@pytest.mark.parametrize("begin", [extract, plan_run])
def test_parts_of_volumes_are_refused_whichever_encoder_looks_at_all_frames(
    begin: Any, bucket: Path, reference: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\n"
        "from extract.encoder.families.retfound import RETFOUND\n"
        "MINE = replace(RETFOUND, name='mine_of_all_frames', preset='finetune_v0')\n"
    )
    file, stores = reference / "encoders" / "retfound_mae" / "checkpoint.pth", (tmp_path / "a", tmp_path / "b")
    asked = {
        "encoder": ["retfound", str(tmp_path / "mine.py")], "checkpoint": [file, file], "heads": 3,
        "image_size": None, "partial_reads": "on", "tokens": "none",
    }  # fmt: skip
    with pytest.raises(UsageError, match="--partial-reads on: the preset 'finetune_v0' looks at every frame"):
        begin(options(bucket, *stores, **asked))
    assert not any(store.exists() for store in stores)


def test_checkpoints_come_before_encoders_and_keep_their_options() -> None:
    found = parse_words(
        ExtractOptions,
        bucket="b",
        store=["s1", "s2", "s3"],
        encoder="random:base",
        checkpoint=[Path("a.pt"), Path("b.pt")],
        heads=6,
    )
    assert [(one.choice.checkpoint, one.choice.encoder, one.choice.heads, one.store) for one in found.outputs] == [
        (Path("a.pt"), None, 6, "s1"),
        (Path("b.pt"), None, 6, "s2"),
        (None, "random:base", None, "s3"),
    ]
