"""What one cell of a table says: what cannot be seen taken away, ids in one form, numbers as people write them.

Participant ids are normalised here and nowhere else: every table of ids goes through normalise_id.
"""

import re
import unicodedata
from dataclasses import dataclass

from embeddings_store.plain_text import begins_formula, cell_for_spreadsheets

MISSING_WORDS = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "unknown", "missing", "not reported", "not available", ".", "-", "--", "?")
)
"""Words that say, in small letters, that there is no value; a site may be called NA all the same."""

YES = frozenset(("true", "t", "yes", "y", "1", "1.0", "wahr", "vrai"))
NO = frozenset(("false", "f", "no", "n", "0", "0.0", "falsch", "faux"))

_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f"))
_QUOTES = ('""', "''", "“”", "„“", "‘’", "«»", "””")
_FORMULA_ERROR = re.compile(r"#(N/A|NV|NULL!|[A-ZÄÖÜ/0]+[!?])")
_WHOLE = re.compile(r"(\d+)[.,]0{1,2}")
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_BROKEN_IDS = (
    (_FORMULA_ERROR, "the error of a formula"),
    (re.compile(r"\d+([.,]\d+)?e\+\d+", re.IGNORECASE), "a number that a spreadsheet rounded"),
    (re.compile(r"\d{1,3}(,\d{3})+"), "a number with thousands separators"),
    (re.compile(rf"\d{{1,2}}-({_MONTHS})(-\d+)?|({_MONTHS})-\d{{1,4}}", re.IGNORECASE), "a date"),
    (re.compile(r"\d{1,2}[/.]\d{1,2}[/.]\d{2,4}"), "a date"),
    (re.compile(r".*[\t,;|].*", re.DOTALL), "several cells, cut by another separator than the header"),
)
_NUMBER = re.compile(
    r"(?P<below><=|<|≤)?(?P<above>>=|>|≥)?\s*(?P<number>[+-]?(?:\d+(?:[.,]\d+)?|[.,]\d+)(?:[eE][+-]?\d+)?)\s*"
    r"(?P<plus>\+|(?:years )?(?:or|and) (?:older|over|more|above))?\s*(?P<unit>[^\d\s.,+].*)?"
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a cell. bound: it was written as >89, 89+ or <5, and value is that bound; unit: what follows it."""

    value: float
    comma: bool
    bound: bool
    unit: str


def clean(cell: str) -> str:
    """Take away what cannot be seen, spaces around, ="1001", a leading apostrophe and quotes around the whole."""
    if not cell.isascii():
        cell = unicodedata.normalize("NFC", " ".join(cell.translate(_INVISIBLE).split()))
    cell = cell.strip()
    if cell.startswith("="):
        cell = cell[1:].strip() if cell[1:].strip().startswith('"') else cell
    if len(cell) > 1 and cell[0] + cell[-1] in _QUOTES:
        cell = cell[1:-1].strip()
    if cell.startswith('"') and cell.count('"') == 1:  # opened, and closed nowhere
        cell = cell[1:].strip()
    return cell.removeprefix("'").strip()


def quoted_cell(text: str) -> str:
    """Return how a text is written into a table that is read again: no spreadsheet computes it, and clean undoes it."""
    forms = (text, f"'{text}", f'"\'{text}"')
    return next((one for one in forms if clean(one) == text and not begins_formula(one)), cell_for_spreadsheets(text))


def normalise_id(cell: str) -> str:
    """Return a participant's id in the one form that ids are compared in: 1001.0, 1001,00, '1001 and ="1001" are 1001.

    Leading zeros and capitals are part of an id and stay.
    """
    text = clean(cell)
    number = _WHOLE.fullmatch(text)
    return number[1] if number else text


def broken_id(text: str) -> str:
    """Return what a spreadsheet made of an id ("a date"); "" where it can be an id."""
    return next((said for pattern, said in _BROKEN_IDS if pattern.fullmatch(text)), "")


def is_missing(text: str) -> bool:
    """Return whether a cleaned cell means that there is no value."""
    return text.lower() in MISSING_WORDS or bool(_FORMULA_ERROR.fullmatch(text))


def read_number(text: str) -> Number | None:
    """Read a cleaned cell as a number; None where it is none, or 1,234 could be two of them."""
    found = _NUMBER.fullmatch(text.replace("−", "-"))
    if found is None or re.search(r"\d,\d{3}$", found["number"]):
        return None
    comma = "," in found["number"]
    bound = bool(found["below"] or found["above"] or found["plus"])
    return Number(float(found["number"].replace(",", ".")), comma, bound, (found["unit"] or "").strip().lower())
