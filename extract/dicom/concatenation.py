"""Concatenations: one volume as several SOP instances, each with some of its frames (DICOM PS3.3, C.7.6.16.2.2.4)."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from extract.dicom.geometry import read_numbers
from extract.dicom.header import FileBytes, quiet_pydicom, read_header, read_uid
from extract.errors import IncompleteConcatenation


@dataclass(frozen=True, slots=True)
class Part:
    """The place of one file in a volume. whole: a UID that names the volume, never to be shown.

    original: the UID of the instance that was divided, likewise. number: from 1. offset: the number, from 0, that the
    first frame has in the volume. None and "": not told.
    """

    whole: str
    original: str
    number: int | None
    total: int | None
    offset: int | None

    def describe(self) -> str:
        """Say which part it is, for people."""
        return f"part {self.number or '?'} of {self.total or '?'}"


def read_part(elements: Dataset) -> Part | None:
    """Give the place of a file among the parts of a volume; None for one that is whole."""
    names = ("InConcatenationNumber", "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber")
    number, total, offset = (_whole_number(elements, name) for name in names)
    if (number, total, offset) == (None, None, None) or (total == 1 and number in {None, 1} and not offset):
        return None
    original = read_uid(elements, "SOPInstanceUIDOfConcatenationSource")
    return Part(read_uid(elements, "ConcatenationUID") or original, original, number, total, offset)


def part_of_file(data: FileBytes, size: int) -> Part | None:
    """Read the place of a file of ``size`` bytes from its beginning. Raises: as read_header does."""
    header = read_header(data, "file", size=size)
    with quiet_pydicom():
        return read_part(header.elements)


def order_parts(parts: Sequence[Part], source: str) -> list[int]:
    """Give the order, by index, of all parts of one volume. Raises: IncompleteConcatenation, naming what is amiss."""
    totals = sorted({part.total for part in parts if part.total is not None})
    numbers = Counter(part.number for part in parts)
    doubled = sorted(number for number, count in numbers.items() if number is not None and count > 1)
    if len({part.whole for part in parts}) > 1 or len({part.original for part in parts} - {""}) > 1:
        raise _refusal(source, "its parts name different volumes")
    if None in numbers:
        raise _refusal(source, "a part does not say its number (InConcatenationNumber)")
    if doubled:
        raise _refusal(source, f"{numbers[doubled[0]]} objects are part {doubled[0]}")
    if len(totals) != 1:
        given = " and ".join(map(str, totals)) or "no number"
        raise _refusal(source, f"for how many parts there are, InConcatenationTotalNumber gives {given}")
    missing = sorted(set(range(1, totals[0] + 1)) - set(numbers))
    if missing:
        here, gone = (", ".join(map(str, some)) for some in (sorted(filter(None, numbers)), missing))
        raise _refusal(source, f"part {here} of {totals[0]} is here, part {gone} is missing")
    if len(parts) > totals[0]:
        raise _refusal(source, f"there are {len(parts)} parts, its parts say {totals[0]}")
    return sorted(range(len(parts)), key=lambda index: parts[index].number or 0)


def check_offsets(parts: Sequence[Part], counts: Sequence[int], source: str) -> None:
    """Refuse parts, given in order, that leave frames out or hold some twice. counts: of their frames."""
    begins = 0
    for part, count in zip(parts, counts, strict=False):
        if part.offset not in {None, begins}:
            raise _refusal(
                source,
                f"{part.describe()} begins with frame {part.offset} (ConcatenationFrameOffsetNumber), "
                f"and the parts before it hold {begins} frames",
            )
        begins += count


def require_alike(facts: Sequence[dict[str, object]], parts: Sequence[Part], source: str) -> None:
    """Refuse parts, given in order, that contradict the first one in any fact. facts: by name, of each."""
    for told, part in zip(facts[1:], parts[1:], strict=True):
        for name, value in told.items():
            if value != facts[0][name]:
                raise _refusal(source, f"{part.describe()} contradicts part 1: {name} {value}, not {facts[0][name]}")


def _refusal(source: str, why: str) -> IncompleteConcatenation:
    return IncompleteConcatenation(
        f"{source}: the volume is stored in several files (a concatenation), and {why}; put all its parts into one "
        "folder, or export the volume as one multi-frame file"
    )


def _whole_number(elements: Dataset, keyword: str) -> int | None:
    numbers = read_numbers(elements, keyword)
    return int(numbers[0]) if numbers and math.isfinite(numbers[0]) else None
