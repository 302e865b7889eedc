from pathlib import Path
from time import monotonic

import pytest

from embeddings_store.errors import UsageError
from embeddings_store.yaml_file import parse_mapping, parse_yaml, read_mapping

MANY = "".join(f"k{number}: 1\n" for number in range(50_000))
LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    "text",
    ["[" * 5_000, "{a: " * 5_000, "a: 2024-99-99", "a: " + "9" * 5_000, "a: !!int x", "a: !!float []",
     "a: !!python/name:os.system", "a: 1\na: 2", LAUGHS, "? [a]\n: 1", "? {a: 1}\n: 1", "- 1", "text", "", "1: 2",
     "a: \x00", "a: !!timestamp 1", "a: !!binary x", "a: !!set 3", "a: " + "x" * 1_000_001, "<<: 1",
     "a: 9999-99-99 99:99:99", "a: !!int 1:99999999999:x"],
)  # fmt: skip
def test_what_is_no_mapping_of_names_is_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--task mine: expected") as refused:
        parse_mapping(text, "--task mine")
    assert len(str(refused.value)) < 500


def test_a_scalar_tagged_as_a_set_is_refused_with_what_was_expected() -> None:
    with pytest.raises(UsageError, match="expected keys and values"):
        parse_mapping("a: !!set 3", "--task mine")


def test_many_keys_take_no_square_of_their_number() -> None:
    start = monotonic()
    assert len(parse_mapping(MANY, "--task mine")) == 50_000
    many = monotonic() - start
    start = monotonic()
    parse_mapping("".join(MANY.splitlines(keepends=True)[:5_000]), "--task mine")
    assert many < 40 * (monotonic() - start)


def test_a_file_of_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_bytes(b"\xef\xbb\xbfname: x\r\nclasses: [a, b]\r\n")
    assert read_mapping(tmp_path / "t.yaml", "--task t") == {"name": "x", "classes": ["a", "b"]}
    assert parse_yaml("1e-4", "--set x") == "1e-4"


@pytest.mark.parametrize("body", [None, b"\xff\xfe\x00", b"a: \xe9"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, body: bytes | None) -> None:
    if body is not None:
        (tmp_path / "t.yaml").write_bytes(body)
    with pytest.raises(UsageError, match=r"^--task t: expected a YAML file"):
        read_mapping(tmp_path / "t.yaml", "--task t")
