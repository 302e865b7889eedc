"""Text that came with data, made harmless where people read it: no control sequence, no formula."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd  # only named: console stands on this module, and --help has no time for it

FORMULA_STARTS = ("=", "+", "-", "@")
TEXTS = frozenset({"object", "str", "string", "category"})


def visible(text: str) -> str:
    r"""Return text in which control characters and unassigned ones are spelled; line ends and tabs stay.

    Example: visible("a\x1b[31mb") == r"a\x1b[31mb".
    """
    if text.isprintable():
        return text
    return "".join(one if one in "\n\t" or unicodedata.category(one)[0] != "C" else _spelled(one) for one in text)


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of which no text cell or column name begins a formula: one that would gets an apostrophe in front.

    Numbers stay as they are, control characters are spelled. Source: OWASP, CSV Injection.
    """
    texts = [name for name in table.columns if str(table[name].dtype) in TEXTS]
    changed = table.assign(**{name: table[name].map(_quoted) for name in texts})
    return changed.rename(columns=_quoted)


def cell_for_spreadsheets(cell: str) -> str:
    """Return the text of one cell, as for_spreadsheets does."""
    plain = visible(cell)
    return f"'{plain}" if begins_formula(plain) else plain


def begins_formula(cell: str) -> bool:
    """Return whether a spreadsheet would compute a cell instead of showing it."""
    return cell.lstrip().startswith(FORMULA_STARTS) and not _is_number(cell)


def _quoted(cell: object) -> object:
    return cell_for_spreadsheets(cell) if isinstance(cell, str) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _spelled(character: str) -> str:
    return character.encode("unicode_escape", errors="surrogatepass").decode("ascii")
