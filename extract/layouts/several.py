"""Files that hold several volumes, often of both eyes: each is a row of its own, ``file#1``, ``file#2`` and so on."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from embeddings_store.schema import ObjectInfo, Reading
from extract.bucket.source import Source
from extract.errors import FetchError, ScanError
from extract.layouts.contract import PICTURES
from extract.readers.contract import HEAD_BYTES, Inside, ScanFile
from extract.readers.heyex_xml import HeyexXml, named_in, pictures_of
from extract.readers.open import volumes_in

XML = ".xml"
KINDS = (".e2e", ".oct", XML)
"""How names of files end that may hold several volumes; only the whole file tells."""

AT_ONCE = 4
"""Whole files in memory, some of which are large."""

_NUMBERED = re.compile(r"(?P<key>.+)#(?P<number>[1-9]\d{0,5})", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Held:
    """What one file holds. volumes: none where it cannot be read; its row says why. pictures: of each volume of an XML.

    named: every picture that an XML names, of the fundus too. is_scan: False of an XML that is no export of scans.
    """

    volumes: tuple[Inside, ...] = ()
    pictures: tuple[tuple[ObjectInfo, ...], ...] = ()
    named: frozenset[ObjectInfo] = frozenset()
    is_scan: bool = True

    def rows(self, key: str, reading: Reading) -> list[tuple[str, Reading, Inside, tuple[ObjectInfo, ...]]]:
        """Give the row key of each volume, how it is read, what the file says of it, and its pictures."""
        if len(self.volumes) < 2:
            return [(key, reading, self.volumes[0] if self.volumes else Inside(), self.of(None))]
        return [
            (f"{key}#{number}", replace(reading, volume=number), one, self.of(number))
            for number, one in enumerate(self.volumes, 1)
        ]

    def of(self, number: int | None) -> tuple[ObjectInfo, ...]:
        """Give the pictures of a volume, from 1; of all of them without a number."""
        chosen = self.pictures if number is None else self.pictures[number - 1 : number]
        return tuple(dict.fromkeys(info for one in chosen for info in one))


NOTHING = Held()


def split_number(written: str) -> tuple[str, int | None]:
    """Read "file#2": the file, and which of its volumes; None without a number."""
    match = _NUMBERED.fullmatch(written)
    return (match["key"], int(match["number"])) if match else (written, None)


def look_into(
    source: Source, files: Sequence[ObjectInfo], folders: Mapping[str, Sequence[ObjectInfo]]
) -> dict[str, Held]:
    """Fetch files of these kinds, several at once, and say what each holds. folders: the objects of each.

    Raises: BucketError.
    """

    def look(info: ObjectInfo) -> Held:
        try:
            data = source.fetch(info).data
            if not info.key.lower().endswith(XML):
                return Held(tuple(volumes_in([ScanFile(info.key, data)])))
            if not HeyexXml().recognises(info.key, data[:HEAD_BYTES]):
                return Held(is_scan=False)
            beside = {other.key.rpartition("/")[2]: other for other in folders.get(info.key.rpartition("/")[0], ())}
            inside = tuple(volumes_in([ScanFile(info.key, data)]))
            stacks = pictures_of(data, info.key)
            pictures = tuple(tuple(beside[name] for name in names if name in beside) for names in stacks)
            return Held(inside, pictures, frozenset(beside[name] for name in named_in(data, info.key) & beside.keys()))
        except (FetchError, ScanError):
            beside_it = folders.get(info.key.rpartition("/")[0], ()) if info.key.lower().endswith(XML) else ()
            # Whose the pictures are nobody knows now; together they would make a volume that there is not.
            return Held(named=frozenset(one for one in beside_it if one.key.lower().endswith(PICTURES)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip((info.key for info in files), pool.map(look, files), strict=True))
