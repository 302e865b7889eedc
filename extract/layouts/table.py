"""The layout of a table: one line a scan says which objects it is made of, and whose it is."""

import io
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from pathlib import Path

import pandas as pd

from embeddings_store.errors import UsageError
from embeddings_store.plain_text import visible
from embeddings_store.schema import HERE, SEVERAL, ObjectInfo, Reading, crowded_folders, parts_key
from embeddings_store.terminal.console import say
from embeddings_store.text_table import TextTable, fold_name, open_table, read_file
from extract.bucket.source import Source
from extract.layouts.contract import (
    DICOM,
    DOCUMENTS,
    KNOWN,
    PICTURES,
    Listing,
    Scan,
    Skip,
    is_eye,
    junk_of,
    make_ref,
    natural,
    participant_fault,
    with_companions,
)
from extract.layouts.options import SCAN_COLUMNS
from extract.layouts.several import XML, look_into, split_number

GLOB = re.compile(r"[*?\[]")
EXPECTED: Mapping[str, str] = {Skip.NO_LINE: "a line of the table for each file or its folder"}
IDENTIFIERS: Mapping[str, str] = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "birth_date": "PatientBirthDate",
    "study_date": "StudyDate",
    "accession_number": "AccessionNumber",
    "series_description": "SeriesDescription",
}
"""Columns of a survey that was asked for them, and the elements of DICOM that they hold."""

OF_SURVEY = ("scan", "visit", "frames", "rows", "columns", "bits", "sha256", "notes", *IDENTIFIERS)
"""Further columns of a survey, which are no labels."""


class Objects:
    """The objects of a bucket, found by what a person writes: a key, a folder, a glob, or keys joined by bars.

    pictures: further objects of an XML, by the key of its row.
    """

    def __init__(
        self, objects: Sequence[ObjectInfo], pictures: Mapping[str, Sequence[ObjectInfo]] | None = None
    ) -> None:
        self._pictures = pictures or {}
        self.usable = [info for info in objects if junk_of(info) is None]
        self._by_key = {_plain(visible(info.key)): info for info in self.usable}  # as a survey writes them
        self._by_key |= {_plain(info.key): info for info in self.usable}
        self._folders: dict[str, list[ObjectInfo]] = defaultdict(list)
        for info in self.usable:
            for folder in {_plain(form).rpartition("/")[0] for form in (info.key, visible(info.key))}:
                self._folders[folder].append(info)

    def find(self, written: str) -> tuple[str, list[ObjectInfo]]:
        """Give the key of the volume that is meant and its objects, in the order of their numbers; none: no object."""
        text = _plain(written)
        file, number = split_number(text)
        if number is not None and text not in self._by_key and file in self._by_key:
            info = self._by_key[file]
            return f"{info.key}#{number}", [info, *self._pictures.get(f"{info.key}#{number}", ())]
        if text in self._by_key:
            info = self._by_key[text]
            beside = with_companions(info, self._folders[text.rpartition("/")[0]])
            return info.key, [*beside, *self._pictures.get(info.key, ())]
        folder = "" if text == HERE else text.rstrip("/")
        if folder in self._folders:
            found = frames_of(self._folders[folder])
            return (found[0].key.rpartition("/")[0] if found else folder) or HERE, found
        if SEVERAL in text:
            parts = [self._by_key.get(part.strip()) for part in text.split(SEVERAL)]
            known = [info for info in parts if info is not None]
            return (parts_key(known[0].key), known) if len(known) == len(parts) else (text, [])
        return text, sorted(self._matching(text), key=lambda info: natural(info.key)) if GLOB.search(text) else []

    def with_pictures(self, source: Source, written: Sequence[str]) -> "Objects":
        """Read the XML files that are meant, for the pictures that they name. Raises: BucketError."""
        files = {split_number(_plain(one))[0] for one in written if XML in one.lower()} & self._by_key.keys()
        named = [self._by_key[file] for file in sorted(files) if file.lower().endswith(XML)]
        found = dict[str, tuple[ObjectInfo, ...]]()
        for key, held in look_into(source, named, self._folders).items():
            found |= {key: held.of(None)} | {f"{key}#{n}": held.of(n) for n in range(1, len(held.pictures) + 1)}
        return Objects(self.usable, found)

    def name(self, key: str, files: Sequence[str]) -> str:
        """Write a volume as find reads it: its key where that means these files, else their keys and bars.

        "" where neither does, for the bars that stand in a name.
        """
        found, objects = self.find(key)
        if found == key and [info.key for info in objects] == list(files):
            return key
        bars = SEVERAL.join(files)
        return bars if [info.key for info in self.find(bars)[1]] == list(files) else ""

    def _matching(self, text: str) -> Iterator[ObjectInfo]:
        folder, _, name = text.rpartition("/")
        if not GLOB.search(folder):
            match = re.compile(translate(name)).match
            yield from (one for one in self._folders.get(folder, ()) if match(_plain(one.key).rpartition("/")[2]))
            return
        parts = [re.compile(translate(part)) for part in text.split("/")]
        for info in self.usable:
            names = _plain(info.key).split("/")
            if len(names) == len(parts) and all(part.match(one) for part, one in zip(parts, names, strict=True)):
                yield info


def frames_of(objects: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    """Choose the frames of a volume among the objects of its folder: pictures, else DICOM files, by their numbers.

    Without either, files of no known name: DICOM series are often written as IM0001, IM0002 and so on.
    """
    found = [[info for info in objects if info.key.lower().endswith(kinds)] for kinds in (PICTURES, DICOM)]
    nameless = [info for info in objects if not info.key.lower().endswith((*KNOWN, *DOCUMENTS))]
    return sorted(found[0] or found[1] or nameless, key=lambda info: natural(info.key))


class TableLayout:
    """A table of scans; columns: what the table calls the known ones."""

    name = "table"

    def __init__(self, path: Path, columns: Mapping[str, str], reading: Reading) -> None:
        self._path, self._where, self._reading = path, f"--scans {path}", reading
        self._names = {name: fold_name(columns.get(name, name)) for name in SCAN_COLUMNS}

    def find(self, source: Source, objects: Sequence[ObjectInfo]) -> Listing:
        """Name the scan of each line; one whose objects are not there becomes an error row.

        Raises: UsageError for a line that cannot be meant: no participant, a path out of the bucket, two volumes under
        one key.
        """
        table = self._open()
        here, scans, lines = Objects(objects), dict[str, Scan](), dict[str, int]()
        skipped: Counter[str] = Counter()
        used: dict[str, str] = {}
        written = list(self._lines(table))
        files = sorted({cells[self._names["file"]] for _, cells in written})
        several = [here.find(one)[1] for one in files if SEVERAL in one]
        here = here.with_pictures(source, files)
        crowded = crowded_folders([info.key for info in objects] for objects in several if len(objects) > 1)
        for number, cells in written:
            scan = self._scan(table, here, number, cells, crowded)
            key = scan.ref.key
            if key in scans:
                if scan != scans[key]:
                    found = f"{key!r} again, of line {lines[key]}, as another scan"
                    raise table.refuse(found, "one line a volume", number, self._names["file"])
                skipped[Skip.DOUBLE] += 1
                continue
            self._claim(table, number, scan, used)
            scans[key], lines[key] = scan, number
        for said in table.said():
            say(said)
        if not scans:
            raise table.refuse("none", "at least one line that names a file")
        return _listing(source, objects, scans, used, skipped)

    def _claim(self, table: TextTable, number: int, scan: Scan, used: dict[str, str]) -> None:
        ref = scan.ref
        for one in [ref.key] if ref.reading.volume or not ref.members else [info.key for info in ref.members]:
            if one in used:
                found = f"{one!r}, which {used[one]!r} holds too"
                raise table.refuse(found, "each object in one volume", number, self._names["file"])
            used[one] = ref.key

    def _open(self) -> TextTable:
        data = read_file(self._path, self._where, UsageError)
        if data.startswith(b"PAR1"):
            try:
                data = _as_text(pd.read_parquet(io.BytesIO(data), dtype_backend="numpy_nullable"))
            except (OSError, ValueError) as error:
                raise UsageError(f"{self._where}: expected a table, got a Parquet file that is damaged") from error
        return open_table(data, self._where, UsageError, (self._names["file"], self._names["participant"]))

    def _lines(self, table: TextTable) -> Iterator[tuple[int, Mapping[str, str]]]:
        need = (self._names["file"], self._names["participant"])
        want = tuple(name for name in dict.fromkeys(table.names) if name and name not in need)
        for line in table.read(need, want):
            if any(line.cells.values()):
                yield line.number, line.cells

    def _scan(
        self, table: TextTable, here: Objects, number: int, cells: Mapping[str, str], crowded: Collection[str]
    ) -> Scan:
        said = {name: cells.get(column, "") for name, column in self._names.items()}
        if fault := _unsafe(said["file"]):
            raise table.refuse(fault, "a key below the bucket or its prefix", number, self._names["file"])
        if fault := participant_fault(said["participant"]):
            expected = "any text of 1 to 64 characters without slashes"
            raise table.refuse(fault, expected, number, self._names["participant"])
        if not is_eye(said["eye"]):
            raise table.refuse(repr(said["eye"]), "L, R, OD, OS or nothing", number, self._names["eye"])
        key, found = here.find(said["file"])
        if len(found) > 1 and key == parts_key(found[0].key) and SEVERAL in said["file"]:
            key = parts_key(found[0].key, cells.get("scan", ""), crowded)
        file, volume = split_number(key)
        inside = volume if file != key and [info.key for info in found[:1]] == [file] else None
        reading = replace(self._reading, volume=inside)
        told = {name: said[name] for name in ("eye", "device", "protocol", "site")}
        labels = {name: cell for name, cell in cells.items() if name not in (*self._names.values(), *OF_SURVEY)}
        visit = said["date"] or cells.get("visit", "")
        return Scan(
            make_ref(key, found, said["participant"], reading=reading, **told),
            cells.get("scan") or key,
            said["split"],
            visit,
            labels,
        )


def _listing(
    source: Source,
    objects: Sequence[ObjectInfo],
    scans: Mapping[str, Scan],
    used: Mapping[str, str],
    skipped: Counter[str],
) -> Listing:
    """Count what no line names, with an example for each reason."""
    examples: dict[str, str] = {}
    inside = {info.key for scan in scans.values() for info in scan.ref.members}
    for info in objects:
        if info.key not in used and info.key not in inside:
            reason = str(junk_of(info) or Skip.NO_LINE)
            skipped[reason] += 1
            examples.setdefault(reason, info.key)
    skipped.update({str(reason): count for reason, count in source.counts.passed_over.items()})
    refs = [scans[key].ref for key in sorted(scans)]
    listed = len(objects) + source.counts.passed_over.total()
    return Listing(refs, listed, dict(skipped), TableLayout.name, scans, examples, EXPECTED)


def _as_text(table: pd.DataFrame) -> bytes:
    """Write a table as CSV; whole numbers stay whole where a gap made them real: 17, not 17.0."""
    whole = {
        name: column.astype("Int64")
        for name, column in table.items()
        if pd.api.types.is_float_dtype(column)
        and (column.dropna() % 1 == 0).all()
        and (column.dropna().abs() < 2**53).all()
    }
    return table.assign(**{str(name): column for name, column in whole.items()}).to_csv(index=False).encode()


def _unsafe(written: str) -> str:
    """Say why a path cannot be a key; "" where it can."""
    text = written.replace("\\", "/")
    if not text.strip("/ "):
        return "nothing"
    if text.startswith("/") or re.match(r"[A-Za-z]:/|\w+://", text):
        return f"the absolute path {written!r}"
    return f"{written!r}, which leaves the bucket" if ".." in text.split("/") else ""


def _plain(text: str) -> str:
    """Give a path in the one form that paths are compared in: composed letters, forward slashes, no ./ in front."""
    return unicodedata.normalize("NFC", text).replace("\\", "/").removeprefix("./")
