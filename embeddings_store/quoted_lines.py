"""Cut lines into cells: quotes as RFC 4180 has them where that makes sense, and letter by letter where it does not.

A quote that is opened and never closed must not swallow the lines after it: where these look like lines of the table
themselves, the quote is a letter of its cell.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LINES_OF_A_CELL = 200
"""A cell that is in quotes may go on over so many lines."""

STRAY = "quotes were opened and not closed, and read as letters"


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of one line of a table, and the number of the line in the file, from 1."""

    line: int
    cells: list[str]


class AmbiguousQuoteError(ValueError):
    """A quote might close lines later or not at all; .line says where it was opened."""

    def __init__(self, line: int) -> None:
        """Take the line's number in the file."""
        super().__init__(line)
        self.line = line


def cut_records(lines: Sequence[str], first: int, separator: str, width: int, notes: Counter[str]) -> Iterator[Record]:
    """Cut all lines from lines[first] on; lines without content are counted and left out.

    width: cells that the header has. Raises: AmbiguousQuoteError.
    """
    place = first
    while place < len(lines):
        line, used = lines[place], 1
        if '"' in line:
            cells, used = _cut_quoted(lines, place, separator, width, notes)
        else:
            cells = line.split(separator)
        if any(cell.strip() for cell in cells):
            yield Record(place + 1, cells)
        else:
            notes["blank lines were left out"] += 1
        place += used


def cut_line(line: str, separator: str) -> tuple[list[str], bool]:
    """Cut one line: the cells, and whether a quote that was opened is still open at its end (its cell as it stands)."""
    cells: list[str] = []
    place = 0
    while True:
        if line[place : place + 1] == '"' and (end := _closing(line, place, separator)) != place:
            if end < 0:
                return [*cells, *line[place:].split(separator)], True
            cells.append(line[place + 1 : end].replace('""', '"'))
            place = end + 1
        else:
            end = line.find(separator, place)
            end = len(line) if end < 0 else end
            cells.append(line[place:end])
            place = end
        if place >= len(line):
            return cells, False
        place += len(separator)


def _closing(line: str, opened: int, separator: str) -> int:
    """Find the quote that closes a cell; -1: none does; opened itself: what closes is followed by letters."""
    place = opened + 1
    while (place := line.find('"', place)) >= 0:
        if line[place + 1 : place + 2] == '"':
            place += 2
            continue
        rest = line[place + 1 :].lstrip(" ") if separator != " " else line[place + 1 :]
        if not rest or rest.startswith(separator):
            return place if line[place + 1 : place + 2] in ("", separator) else opened
        return opened
    return -1


def _cut_quoted(
    lines: Sequence[str], place: int, separator: str, width: int, notes: Counter[str]
) -> tuple[list[str], int]:
    literal, is_open = cut_line(lines[place], separator)
    if not is_open:
        return literal, 1
    joined = lines[place]
    for used, following in enumerate(lines[place + 1 : place + LINES_OF_A_CELL], 2):
        joined += "\n" + following
        if '"' not in following:
            continue
        cells, is_open = cut_line(joined, separator)
        if is_open or len(cells) != width:
            continue
        swallowed = [len(line.split(separator)) >= width for line in lines[place + 1 : place + used]]
        if not any(swallowed):
            notes["cells hold a line break"] += 1
            return cells, used
        if len(literal) < width:
            raise AmbiguousQuoteError(place + 1)
        break
    notes[STRAY] += 1
    return literal, 1
