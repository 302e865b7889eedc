"""The first sheet of an Excel workbook (.xlsx), as rows of text: ids as they stand, no formula is computed."""

import io
import re
import zipfile
from collections.abc import Mapping
from xml.parsers import expat

from embeddings_store.cells import clean
from embeddings_store.text_table import fold_name
from extract.errors import BucketError

MOST_BYTES = 64 << 20
"""Of one part of the workbook, unpacked; a table of labels has a few."""
SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")


def read_workbook(data: bytes, where: str) -> list[Mapping[str, str]]:
    """Give each row below the header by folded column names. Raises: BucketError where this is no workbook."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            sheets = sorted(
                (name for name in book.namelist() if SHEET.fullmatch(name)), key=lambda name: (len(name), name)
            )
            if not sheets:
                raise BucketError(f"{where}: expected a workbook with a sheet, got none; save the table as CSV")
            shared = (
                _texts(_part(book, "xl/sharedStrings.xml", where), "si")
                if "xl/sharedStrings.xml" in book.namelist()
                else []
            )
            rows = _rows(_part(book, sheets[0], where), [text for text, *_ in shared])
    except (zipfile.BadZipFile, KeyError, expat.ExpatError, ValueError, IndexError, NotImplementedError) as error:
        raise BucketError(f"{where}: expected an .xlsx workbook, got one that is damaged; save it as CSV") from error
    if not rows:
        return []
    names = {place: fold_name(text) for place, text in rows[0].items() if text}
    return [{name: clean(row.get(place, "")) for place, name in names.items()} for row in rows[1:] if any(row.values())]


def _part(book: zipfile.ZipFile, name: str, where: str) -> bytes:
    if book.getinfo(name).file_size > MOST_BYTES:
        raise BucketError(f"{where}: expected a table of labels, got a workbook of more than {MOST_BYTES >> 20} MB")
    return book.read(name)


def _texts(xml: bytes, tag: str) -> list[tuple[str, str, str]]:
    """Give, of each element of a tag, its text, its type and its reference; text is joined over its <t> and <v>."""
    found: list[tuple[str, str, str]] = []
    open_now: list[str] = []
    texts: list[str] = []
    told = {"t": "", "r": ""}

    def start(name: str, attributes: Mapping[str, str]) -> None:
        open_now.append(name.rpartition(":")[2])
        if open_now[-1] == tag:
            texts.clear()
            told.update({"t": attributes.get("t", ""), "r": attributes.get("r", "")})

    def text(words: str) -> None:
        if open_now and open_now[-1] in {"t", "v"} and "rPh" not in open_now:
            texts.append(words)

    def end(_: str) -> None:
        if open_now.pop() == tag:
            found.append(("".join(texts), told["t"], told["r"]))

    def refuse(*_: object) -> None:
        raise ValueError("a workbook declares no entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.EntityDeclHandler = refuse
    parser.Parse(xml, True)
    return found


def _rows(xml: bytes, shared: list[str]) -> list[dict[str, str]]:
    rows: dict[int, dict[str, str]] = {}
    for text, kind, place in _texts(xml, "c"):
        found = re.fullmatch(r"([A-Z]+)(\d+)", place)
        if found is None:
            raise ValueError("a cell without a place")
        rows.setdefault(int(found[2]), {})[found[1]] = shared[int(text)] if kind == "s" else text
    return [rows[number] for number in sorted(rows)]
