"""--where: which volumes it keeps, and what it refuses."""

from pathlib import Path

import pytest

from embeddings_store.errors import UsageError
from extract.bucket.catalogue import Catalogue, open_catalogue
from extract.bucket.folder import FolderSource
from extract.bucket.participants import read_participant_ids
from extract.bucket.where import Comparison, parse_where, select_where

SCANS = {
    "a": ("zeiss_cirrus", "1001", "cirrus_mac", "l", 128),
    "b": ("topcon_triton", "1001", "triton_macula_6x6", "r", 320),
    "c": ("topcon_triton", "4001", "triton_macula_6x6", "l", None),
    "d": ("topcon_maestro2", "7001", "maestro2_3d_wide", "r", 64),
}
TABLE = "participant_id\trecommended_split\tretinal_oct\n1001\ttrain\tTRUE\n4001\tval\tTRUE\n"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    lines = ["participant_id\tlaterality\tnumber_of_frames\tfilepath"]
    for number, (device, person, protocol, eye, frames) in enumerate(SCANS.values()):
        key = f"retinal_oct/structural_oct/{device}/{person}/{person}_{protocol}_oct_{eye}_1.2.{number}.dcm"
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(b"x")
        if frames is not None:
            lines.append(f"{person}\t{eye.upper()}\t{frames}\t/{key}")
    (tmp_path / "retinal_oct/manifest.tsv").write_text("\n".join(lines))
    (tmp_path / "participants.tsv").write_text(TABLE)
    return open_catalogue(FolderSource(tmp_path), now_ns=0)


def chosen(catalogue: Catalogue, text: str) -> str:
    kept = select_where(catalogue.listing.refs, parse_where(text), catalogue)
    return "".join(sorted("abcd"[int(ref.key[-5])] for ref in kept))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("device=zeiss_cirrus", "a"),
        ("device=topcon_triton,zeiss_cirrus", "abc"),
        ("device = topcon_triton , zeiss_cirrus and eye = L", "ac"),
        ("eye=l AND site!=UCSD", "a"),
        ("site=UW,UAB", "abd"),
        ("participant!=1001", "cd"),
        ("split=train", "ab"),
        ("split=unknown", "d"),
        ("protocol!=cirrus_mac,maestro2_3d_wide", "bc"),
        ("frames>=128", "ab"),
        ("frames>128", "b"),
        ("frames<=64", "d"),
        ("frames<128", "d"),
        ("frames!=64", "ab"),
        ("frames=64", "d"),
        ("device=topcon_triton,zeiss_cirrus and eye=L and frames>=64", "a"),
    ],
)
def test_what_is_kept(catalogue: Catalogue, text: str, kept: str) -> None:
    assert chosen(catalogue, text) == kept


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("device=topcon", r"no volume has device=topcon; expected one of topcon_maestro2, topcon_triton, zeiss_cirrus"),
        ("eye=U", "expected one of L, R"),
        ("age>3", "unknown field 'age'; expected one of device, protocol, eye, site, participant, split, frames"),
        ("device>zeiss_cirrus", "takes = or !="),
        ("frames>many", "whole number"),
        ("frames=1,2", "whole number"),
        ("participant=9999", "files of 3 participants"),
        ("device=zeiss_cirrus or eye=L", "joined by 'and'"),
        ("device=zeiss_cirrus and", "joined by 'and'"),
        ("__import__('os').system('true')", "joined by 'and'"),
        ("", "joined by 'and'"),
        ("device=zeiss_cirrus and eye=R", "no volume meets all"),
    ],
)
def test_what_is_refused(catalogue: Catalogue, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"--where: .*{words}") as caught:
        chosen(catalogue, text)
    assert "1001" not in str(caught.value)


def test_frames_without_a_manifest(tmp_path: Path, catalogue: Catalogue) -> None:
    (tmp_path / "retinal_oct/manifest.tsv").unlink()
    with pytest.raises(UsageError, match=r"manifest\.tsv only"):
        chosen(open_catalogue(FolderSource(tmp_path), now_ns=0), "frames>1")


def test_an_expression_is_data() -> None:
    assert parse_where("frames>=64 and eye=l,r") == (
        Comparison("frames", ">=", ("64",)),
        Comparison("eye", "=", ("L", "R")),
    )


@pytest.mark.parametrize("text", [TABLE, "\ufeff" + TABLE, "1001\n\n 4001 \n", "participant_id\n1001\n4001\n"])
def test_participant_ids(tmp_path: Path, text: str) -> None:
    (tmp_path / "ids").write_text(text, encoding="utf-8")
    assert read_participant_ids(tmp_path / "ids") == {"1001", "4001"}


@pytest.mark.parametrize("data", [None, b"", b"\xff\xfe", b"other\tcolumns\n1\t2\n"])
def test_unusable_lists_of_participants(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "ids").write_bytes(data)
    with pytest.raises(UsageError, match="--participants"):
        read_participant_ids(tmp_path / "ids")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("participant=x y", ("x y",)),
        ('participant="x y"', ("x y",)),
        ("site=St. Gallen", ("St. Gallen",)),
        ("site=St. Gallen,'Basel, east' ", ("St. Gallen", "Basel, east")),
        ('site="Rock and Roll"', ("Rock and Roll",)),
        ('site="Rock and eye=L"', ("Rock and eye=L",)),
        ("participant=Müller #3 (b)", ("Müller #3 (b)",)),
        ('participant="O\'Neill"', ("O'Neill",)),
    ],
)
def test_any_value_can_be_written(text: str, values: tuple[str, ...]) -> None:
    (found,) = parse_where(text)
    assert found.values == values
    first, second = parse_where(f"{text} and eye=l")
    assert (first, second.values) == (found, ("L",))
