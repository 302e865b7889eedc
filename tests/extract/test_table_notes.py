"""What was mended in a table that a run read is said; a table of other people is refused."""

from pathlib import Path

import pytest
from small_bucket import fill_bucket, options

from embeddings_store.errors import UsageError
from extract.selection import select_volumes

SPLITS = "participant_id\trecommended_split\tretinal_oct\n1001\ttrain\tTRUE\n1002\tval\tTRUE\n1003\ttest\tTRUE\n"


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return fill_bucket(tmp_path / "bucket", 3)


def test_notes_of_both_tables_are_said(bucket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bucket / "participants.tsv").write_bytes(SPLITS.encode("utf-16"))
    mine = tmp_path / "mine.csv"
    mine.write_text("sep=;\nparticipant_id;site\n1001.0;UW;\n1002.0;UW;\n")
    found = select_volumes(options(bucket, tmp_path / "store", participants=mine), now_ns=0)
    said = capsys.readouterr().err.splitlines()
    assert [ref.participant for ref in found.refs] == ["1001", "1002"]
    assert "participants.tsv of the bucket: the file was read as UTF-16" in said
    assert f"--participants {mine}: 2 lines end in separators that the header lacks" in said


def test_an_unreadable_table_of_the_bucket_is_said_before_a_choice_by_split(
    bucket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bucket / "participants.tsv").write_text(SPLITS.replace("retinal_oct", "Recommended Split"))
    with pytest.raises(UsageError, match="split"):
        select_volumes(options(bucket, tmp_path / "store", where="split=train"), now_ns=0)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("participants.tsv of the bucket, column recommended_split: expected one column")


def test_a_list_that_matches_mostly_nobody_is_refused(bucket: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("1001\n2002\n2003\n2004\n")
    with pytest.raises(UsageError, match="4 ids of which 1 are among the 3 participants of the bucket"):
        select_volumes(options(bucket, tmp_path / "store", participants=mine), now_ns=0)
