from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings_store.file_names import LONGEST, file_name


@pytest.mark.parametrize(
    "name, expected",
    [("1001", "1001"), ("P-01_a.b~c", "P-01_a.b~c"), ("../../x", "=..=2F..=2Fx"), ("a b", "a=20b"), ("é", "=C3=A9"),
     ("..", "=.."), (".hidden", "=.hidden"), ("a\n\x1b", "a=0A=1B"), ("a=2Fb", "a=3D2Fb"), ("", "")],
)  # fmt: skip
def test_a_name_of_the_data_becomes_a_plain_file_name(name: str, expected: str) -> None:
    assert file_name(name) == expected


@settings(max_examples=200)
@given(st.text(max_size=90), st.text(max_size=90))
def test_two_names_never_become_one_and_none_leaves_its_folder(one: str, other: str) -> None:
    made = file_name(one)
    assert (made == file_name(other)) == (one == other)
    assert made.isascii() and len(made) <= LONGEST and "/" not in made and not made.startswith(".")
    assert (Path("/out") / f"case-{made}").resolve().parent == Path("/out")
