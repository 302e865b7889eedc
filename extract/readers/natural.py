"""The order of pictures in a folder: numbers in names count as numbers, and a number that is missing shows."""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

NUMBER: Final = re.compile(r"([0-9]+)")
Key: TypeAlias = tuple[tuple[int, int, str], ...]


def natural_key(name: str) -> Key:
    """Give the key by which `2.png` comes before `10.png`; letters count without their case."""
    parts = NUMBER.split(name.casefold())
    return tuple((1, int(part), part) if index % 2 else (0, 0, part) for index, part in enumerate(parts))


def missing_numbers(names: Sequence[str]) -> list[int]:
    """List the slice numbers, between the least and the greatest, that no name has.

    The slice number is the one run of digits by which the names differ; where several do, nothing is known.
    """
    runs = [NUMBER.split(name.casefold())[1::2] for name in names]
    if len(names) < 2 or len({len(run) for run in runs}) != 1:
        return []
    columns = [sorted({int(number) for number in column}) for column in zip(*runs, strict=True)]
    differing = [numbers for numbers in columns if len(numbers) > 1]
    if len(differing) != 1 or len(differing[0]) != len(names) or differing[0][-1] - differing[0][0] > 100 * len(names):
        return []
    (numbers,) = differing
    return sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
