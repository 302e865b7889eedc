"""The pickle machine of checkpoints, with its teeth drawn."""

import os
import pickle
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.encoder.unpickle import Inert, read_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=6,
)


class Hostile:
    """Pickles to a call of anything."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [os.system, open, eval, exec, __import__, pickle.loads, setattr])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_calls_become_inert(function: Any, protocol: int) -> None:
    found, foreign = read_pickle(pickle.dumps({"a": Hostile(function, "PWNED", "w")}, protocol))
    assert isinstance(found["a"], Inert)
    assert found["a"].arguments == ("PWNED", "w")
    assert len(foreign) == 1
    assert foreign[0].endswith(f".{function.__name__}")


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02ccollections\nOrderedDict\nN}X\x01\x00\x00\x00aK\x01s\x86b.",
        b"\x80\x02cos\nsystem\nN}X\x06\x00\x00\x00appendK\x01s\x86b.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02ctorch\nfloat32\n}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04tR.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x02(X\x07\x00\x00\x00storageX\x01\x00\x00\x00aK\x01K\x02K\x03tQ.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02K\x01",
        b"not a pickle",
        b"",
    ],
    ids=[
        "class",
        "inert class",
        "function",
        "dtype",
        "tensor",
        "pid",
        "storage",
        "extension",
        "cut",
        "text",
        "none",
    ],
)
def test_programs_that_change_or_confuse_it_are_refused(program: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(program)


@settings(max_examples=30, deadline=None)
@given(PLAIN)
def test_plain_objects_come_through(plain: object) -> None:
    assert read_pickle(pickle.dumps(plain, 2)) == (plain, ())


ONE = b"\x80\x02K\x01"
SHARED = ONE + b"q\x00h\x00\x86" * 200  # each holds the last one twice: hashing or printing it never ends
DEEP = ONE + b"\x85" * 100_000
LONG = b"\x8b" + struct.pack("<i", 2100) + (10**5000).to_bytes(2100, "little", signed=True)


@pytest.mark.parametrize("value", [SHARED, DEEP], ids=["shared", "deep"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(b"}", b"K\x02s."), (b"}(", b"K\x02u."), (b"(", b"K\x02d."), (b"\x8f(", b"\x90."), (b"(", b"\x91."),
     (b"ccollections\nOrderedDict\n]", b"K\x02\x86a\x85R.")],
    ids=["item", "items", "dict", "set", "frozenset", "OrderedDict"],
)  # fmt: skip
def test_keys_that_cannot_be_hashed_in_time_are_refused(value: bytes, before: bytes, after: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError, match="a key is no plain value"):
        read_pickle(value[:2] + before + value[2:] + after)


def test_deep_values_are_read_and_let_go() -> None:
    for program in (DEEP + b".", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", SHARED + b"."):
        read_pickle(program)


def test_a_memo_takes_no_more_memory_than_it_holds() -> None:
    assert read_pickle(ONE + b"r\xff\xff\xff\xff.") == (1, ())


@pytest.mark.parametrize(
    "program",
    [b"\x80\x02}" + LONG + b"K\x01s.",
     b"\x80\x02L" + b"9" * 5000 + b"L\n.",
     b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00aX\x03\x00\x00\x00cpu" + LONG + b"tQ."],
    ids=["key", "text", "storage"],
)  # fmt: skip
def test_numbers_without_end_are_refused(program: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(program)
