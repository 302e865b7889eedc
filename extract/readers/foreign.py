"""Foreign errors mapped at the seam: what a library raises on damaged bytes becomes the reason of a refusal."""

import struct
import tokenize
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final
from zipfile import BadZipFile

from extract.errors import DamagedScan

FOREIGN: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BadZipFile,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
)
LONGEST: Final = 120

_WARNINGS = Lock()


@contextmanager
def damage(source: str, what: str, *others: type[BaseException]) -> Iterator[None]:
    """Turn a library's error into DamagedScan, with its reason. others: classes of the library's own."""
    kinds: tuple[type[BaseException], ...] = (*FOREIGN, *others)
    try:
        yield
    except kinds as error:
        raise DamagedScan(f"{source}: the {what} is damaged or breaks off ({reason_of(error)})") from error


def reason_of(error: BaseException) -> str:
    """Give the class and the first words of an error, without anything that a file could smuggle in."""
    words = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return f"{type(error).__name__}: {words[:LONGEST]}".rstrip(": ")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep a library's warnings from the user; the lock is needed as warnings.catch_warnings is not thread-safe."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
