"""The one reader of text tables: participants, measurements, lists of ids, manifests, as spreadsheets and R save them.

What a table means decides, not how it was saved: encoding and separator are found by content, names of columns are
compared without capitals and spaces. What was mended is counted in notes; what has two meanings is one error that
names file, line and column.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from embeddings_store.cells import broken_id, clean, normalise_id
from embeddings_store.errors import OctProbeError
from embeddings_store.quoted_lines import AmbiguousQuoteError, Record, cut_line, cut_records
from embeddings_store.table_bytes import decode_lines

ID_NAMES = ("participant_id", "person_id")  # AI-READI v2, v3
SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "spaces"}
LOOKED_AT = 200
"""Lines that decide whether each line begins with a row name that the header lacks, as R writes them."""

MOST_COLUMNS = 20_000
"""All features of a large model lie well below it; what has more was saved on its side, or is no table."""

LONGER = "lines end in separators that the header lacks"
SHORTER = "lines are shorter than the header, by columns that need not be filled"
HEADER_WITHIN = 10
"""A header further down than the first line is looked for among so many, to say where it is."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: its number in the file, the normalised id ("": none), cleaned cells by name."""

    number: int
    participant: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class TextTable:
    """A table whose header was understood. names: of the columns, as in fold_name. notes: what was mended, counted."""

    where: str
    fault: type[OctProbeError]
    names: tuple[str, ...]
    separator: str
    lines: Sequence[str]
    first: int
    notes: Counter[str] = field(default_factory=Counter)

    def refuse(self, found: str, expected: str, line: int = 0, column: str = "") -> OctProbeError:
        """Make the error of a place in the table."""
        place = (f", line {line}" if line else "") + (f", column {column}" if column else "")
        return self.fault(f"{self.where}{place}: expected {expected}, got {found}")

    def has(self, name: str) -> bool:
        """Return whether there is such a column."""
        return name in self._places

    def said(self) -> list[str]:
        """Put what was mended, or left out, in words; complete once every line was read."""
        return [f"{self.where}: {_counted(text, count)}" for text, count in self.notes.items()]

    def read(self, need: Sequence[str] = (), want: Sequence[str] = ()) -> Iterator[Line]:
        """Read line by line: the columns of need, those of want where there are any, and the ids.

        Raises: self.fault where a column of need is missing, one that is read stands twice, a line has other cells
        than the header or breaks off before a column of need, an id is spoilt, or the two columns of ids contradict
        each other.
        """
        names = (*need, *(name for name in want if self.has(name)))
        ids = tuple(name for name in ID_NAMES if self.has(name))
        place = {name: self._place(name) for name in (*names, *ids)}
        least = max((place[name] for name in (*need, *ids)), default=-1) if need else -1
        for record in self._records():
            cells = record.cells
            if len(cells) <= least:
                found = f"a line that breaks off after {len(cells)}"
                raise self.refuse(found, f"{len(self.names)} cells, as in the header", record.line)
            cleaned = {name: clean(cells[at]) if at < len(cells) else "" for name, at in place.items()}
            yield Line(record.line, self._id(record.line, [cleaned[name] for name in ids]), cleaned)

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            found.setdefault(name, []).append(number)
        return found

    def _place(self, name: str) -> int:
        found = self._places.get(name, [])
        if len(found) > 1:
            columns = " and ".join(str(number + 1) for number in found)
            raise self.refuse(f"it as columns {columns}; delete or rename one", f"one column {name}", column=name)
        if not found:
            raise self.refuse(_listed(self.names), f"a column {name!r}")
        return found[0]

    def _records(self) -> Iterator[Record]:
        """Yield the lines with their cells; row names are taken off, and so are separators at the end."""
        width = len(self.names)
        try:
            ahead = islice(cut_records(self.lines, self.first, self.separator, width, Counter()), LOOKED_AT)
            named = _has_row_names(list(ahead), width)
            for record in cut_records(self.lines, self.first, self.separator, width, self.notes):
                cells = record.cells[1:] if named else record.cells
                if why := self._no_line(record.cells):
                    self.notes[why] += 1
                    continue
                if named and len(record.cells) != width + 1:
                    raise self._wrong_width(record, width + 1)
                if any(cell.strip() for cell in cells[width:]):
                    raise self._wrong_width(record, width)
                if len(cells) != width:
                    self.notes[LONGER if len(cells) > width else SHORTER] += 1
                yield Record(record.line, cells[:width])
        except AmbiguousQuoteError as error:
            found = "a quote of which nobody can say where it closes; delete or double it"
            raise self.refuse(found, "quotes in pairs", error.line) from error

    def _no_line(self, cells: Sequence[str]) -> str:
        """Return why a line says nothing of anybody: the header once more, as pasted parts have it, or a comment."""
        if cells[0].lstrip().startswith("#") and not any(cell.strip() for cell in cells[1:]):
            return "comments among the lines were left out"
        same = cells[0].strip().lower()[:1] == self.names[0][:1] and tuple(map(fold_name, cells)) == self.names
        return "lines repeat the header and were left out" if same else ""

    def _wrong_width(self, record: Record, width: int) -> OctProbeError:
        found = f"{len(record.cells)}; is a {SEPARATORS[self.separator][:-1]} part of a cell?"
        return self.refuse(found, f"{width} cells, as in the header", record.line)

    def _id(self, line: int, cells: Sequence[str]) -> str:
        found = {normalise_id(cell) for cell in cells} - {""}
        if len(found) > 1:
            raise self.refuse("two different ones", f"the same id in {' and '.join(ID_NAMES)}", line)
        own = found.pop() if found else ""
        if spoilt := broken_id(own):
            column = " or ".join(name for name in ID_NAMES if self.has(name))
            raise self.refuse(f"{spoilt}; save the ids as text", "a participant's id", line, column)
        return own


def read_file(path: Path, where: str, fault: type[OctProbeError]) -> bytes:
    """Read a file of the user's. Raises: fault where it cannot be."""
    if not path.is_file():
        raise fault(f"{where}: expected a table of text, found no file; check the path {path}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise fault(f"{where}: expected a file that can be read, got: {error.strerror}") from error


def open_table(data: bytes, where: str, fault: type[OctProbeError], known: Sequence[str]) -> TextTable:
    """Find the header: the first line with content that is no comment. known: names that a header may have.

    Raises: fault where this is no text, or no header has any of known.
    """
    notes: Counter[str] = Counter()
    lines = _decode(data, where, fault, notes)
    place = _first_line(lines, known, notes)
    separator, names = _best_cut(lines[place], known)
    table = TextTable(where, fault, names, separator, lines, place + 1, notes)
    if len(names) > MOST_COLUMNS:
        raise table.refuse(f"{len(names):,}", f"at most {MOST_COLUMNS:,} columns")
    if not set(names) & set(known):
        later = [at for at in range(place + 1, min(len(lines), HEADER_WITHIN)) if _score(lines[at], known) > 1]
        hint = f"; line {later[0] + 1} looks like the header: delete the lines above it" if later else ""
        raise table.refuse(_listed(names) + hint, f"a header with {' or '.join(known[:2])}", place + 1 if place else 0)
    if separator != "\t" and "\t" in lines[place]:
        notes[f"the table was cut at {SEPARATORS[separator]}"] += 1
    return table


def read_ids(data: bytes, where: str, fault: type[OctProbeError]) -> tuple[frozenset[str], list[str]]:
    """Read participant ids, one a line or a column of a table, and what was mended.

    Raises: fault where this is neither, or holds no id.
    """
    notes: Counter[str] = Counter()
    lines = _decode(data, where, fault, notes)
    header = lines[_first_line(lines, ID_NAMES, notes)]
    if set(_best_cut(header, ID_NAMES)[1]) & set(ID_NAMES):
        table = open_table(data, where, fault, ID_NAMES)
        found = [line.participant for line in table.read()]
    else:
        table = TextTable(where, fault, ("participant_id",), "\t", lines, 0, notes)
        found = [table._id(number, [line]) for number, line in enumerate(lines, 1) if not line.startswith("#")]
        if wide := next((number for number, line in enumerate(lines, 1) if re.search(r"[\t,;|]", line)), 0):
            raise table.refuse(
                f"several cells in line {wide}", f"a column {' or '.join(ID_NAMES)} in its header, or one id a line"
            )
    if not (ids := frozenset(found) - {""}):
        raise table.refuse("none", "at least one participant id")
    return ids, table.said()


def require_match(
    asked: frozenset[str],
    others: frozenset[str],
    where: str,
    fault: type[OctProbeError],
    others_of: str = "the table",
    what: str = "participant",
) -> None:
    """Refuse ids of which under half meet those that they should belong to, counted on the shorter of the two lists.

    A part of a data set, or more than it, is fine; ids of another study, or without their leading zeros, are not.
    """
    met, shorter = len(asked & others), min(len(asked), len(others))
    bare = {one.lstrip("0") for one in others - asked} & asked
    if not shorter or (2 * met >= shorter and not bare):
        return
    hint = f"{len(bare)} lost their leading zeros: save the ids as text" if bare else "do the two belong together?"
    raise fault(
        f"{where}: expected the ids of {others_of}, got {len(asked)} ids of which {met} are among the {len(others)} "
        f"{what}s of {others_of}; {hint}"
    )


def fold_name(cell: str) -> str:
    """Return the name of a column in the form that names are compared in: small letters, _ for spaces, dots, dashes."""
    return re.sub(r"[\s.\-]+", "_", clean(cell).lower())


def _decode(data: bytes, where: str, fault: type[OctProbeError], notes: Counter[str]) -> list[str]:
    def refuse(found: str) -> OctProbeError:
        return fault(f"{where}: expected a table of text with a header, got {found}")

    return decode_lines(data, notes, refuse)


def _first_line(lines: list[str], known: Sequence[str], notes: Counter[str]) -> int:
    """Pass over blank lines, "sep=;" of Excel, and comments; "#participant_id" is a header all the same."""
    for place, line in enumerate(lines):
        text = clean(line)
        if text.startswith("#") and _score(text.lstrip("# "), known):
            lines[place] = text.lstrip("# ")
            return place
        if text.strip("\t,;| ") and not text.startswith("#") and not re.fullmatch(r"(?i)sep=.?", text.strip('"')):
            return place
        notes["lines above the header were left out"] += 1
    return len(lines) - 1


def _best_cut(header: str, known: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Cut the header by the separator that shows the most known names; spaces only where all of it are words."""
    cuts = {mark: tuple(map(fold_name, cut_line(header, mark)[0])) for mark in SEPARATORS}
    best = max(cuts, key=lambda mark: (len(set(cuts[mark]) & set(known)), len(cuts[mark]) if mark != " " else 0))
    return best, cuts[best]


def _score(line: str, known: Sequence[str]) -> int:
    marks = [mark for mark in SEPARATORS if mark != " "]
    return max(len({fold_name(cell) for cell in cut_line(line, mark)[0]} & set(known)) for mark in marks)


def _has_row_names(ahead: Sequence[Record], width: int) -> bool:
    """Return whether every line has one cell more than the header, and the first ones number or name the lines."""
    if not ahead or any(len(record.cells) != width + 1 for record in ahead):
        return False
    if not any(record.cells[-1].strip() for record in ahead):
        return False
    first, second = ([clean(record.cells[at]) for record in ahead] for at in (0, 1))
    return len(set(first)) == len(first) and len(set(second)) > len(second) // 2


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(name or '(no name)' for name in names[:8])}{' ...' if len(names) > 8 else ''}"


def _counted(text: str, count: int) -> str:
    return text if text.startswith("the ") else f"{count} {text}"
