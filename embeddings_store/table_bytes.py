"""From the bytes of a table to its lines: gzip, UTF-8, UTF-16, Windows-1252; other kinds of files are refused."""

import gzip
import zlib
from collections import Counter
from collections.abc import Callable

from embeddings_store.errors import OctProbeError

Refuse = Callable[[str], OctProbeError]
"""Makes the caller's own error of what was found."""

_GZIP = b"\x1f\x8b"
_NO_TEXT = (
    (b"PK\x03\x04", "an Excel workbook (or another zip file)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"{\\rtf", "a rich text document"),
    (b"%PDF", "a PDF document"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite format", "a database"),
)
_MARKUP = (b"<!doctype", b"<html", b"<table", b"<?xml", b"<meta", b"<head", b"<style", b"<div", b"<body")
_WIDE = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def decode_lines(data: bytes, notes: Counter[str], refuse: Refuse) -> list[str]:
    """Return the lines of a table without their ends; what was mended is counted in notes. Raises what refuse makes."""
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise refuse("a damaged gzip file; copy it again") from error
    _refuse_other_kinds(data, refuse)
    text = _decode(data, notes, refuse).removeprefix("\ufeff").rstrip("\x1a\r\n")  # 1A as DOS ended a file
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if number := next((number for number, line in enumerate(lines, 1) if "\0" in line), 0):
        raise refuse(f"a zero byte in line {number}; the file is damaged or no text")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise refuse("an empty file, without a header")
    return lines


def _refuse_other_kinds(data: bytes, refuse: Refuse) -> None:
    start = data[:200].lstrip(b"\xef\xbb\xbf \t\r\n")
    found = next((said for magic, said in _NO_TEXT if start.startswith(magic)), "")
    if start.lower().startswith(_MARKUP):
        found = "a web page or XML"
    if found:
        raise refuse(f"{found}, whatever its name says; open it in the spreadsheet and save it as CSV (UTF-8)")


def _decode(data: bytes, notes: Counter[str], refuse: Refuse) -> str:
    """Try the mark, then zero bytes that only UTF-16 has so many of, then UTF-8, then Windows-1252."""
    wide = next((name for mark, name in _WIDE if data.startswith(mark)), "") or _guess_wide(data[:2000])
    try:
        if wide:
            text = data.decode(wide)
            notes[f"the file was read as {wide.upper()}"] += 1
            return text
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if wide:
            raise refuse(f"{wide.upper()} that breaks off or is damaged; save it as CSV (UTF-8)") from error
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise refuse(f"in line {number} a byte of no known text encoding; save it as CSV (UTF-8)") from error
    notes["the file is not UTF-8 and was read as Windows-1252"] += 1
    return text


def _guess_wide(start: bytes) -> str:
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if odd > len(start) / 4 and not even:
        return "utf-16-le"
    return "utf-16-be" if even > len(start) / 4 and not odd else ""
