"""Heidelberg HEYEX XML export: a table of series, and a picture a B-scan in the same folder.

No field of the patient is looked at.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as Xml

from embeddings_store.schema import Eye
from extract.dicom.header import FileBytes
from extract.errors import DamagedScan, RefusedScan
from extract.readers.contract import Inside, Request, ScanFile
from extract.readers.foreign import damage
from extract.readers.one_file import require_number
from extract.readers.pictures import picture_stack
from extract.readers.raw_block import require_plain_name
from extract.readers.stack import Spacing, to_volume
from extract.volume import Volume

MARK: Final = b"<HEDX"
LONGEST: Final = 1 << 26
EYES: Final = {"R": Eye.RIGHT, "L": Eye.LEFT}
CONTEXT: Final = "OphthalmicAcquisitionContext"


class HeyexXml:
    """Reads the XML with its pictures; each series with B-scans is a volume."""

    name = "Heidelberg XML"

    def recognises(self, name: str, head: bytes) -> bool:
        """Tell by the root element."""
        return MARK in head.replace(b"\0", b"")

    def companions(self, name: str, data: FileBytes) -> tuple[str, ...]:
        """Name the pictures of the B-scans."""
        return tuple(name for names in pictures_of(data, "file") for name in names)

    def volumes(self, files: Sequence[ScanFile], request: Request) -> list[Inside]:
        """Name the series that have B-scans."""
        found = _series(_header(files, request).data, request.source)
        return [
            Inside(label=str(number + 1), eye=_eye(series), spacing_mm=_spacing(series))
            for number, series in enumerate(found)
        ]

    def read(self, files: Sequence[ScanFile], number: int | None, request: Request) -> Volume:
        """Read the B-scans of one series, in the order of the XML."""
        found = _series(_header(files, request).data, request.source)
        if not found:
            raise RefusedScan(f"{request.source}: the XML names no B-scans")
        number = require_number(number, len(found), request)
        series, by_name = found[number], {file.base: file for file in files}
        names = _names(series, request.source)
        missing = [place for place, name in enumerate(names, 1) if name not in by_name]
        if missing:
            raise RefusedScan(
                f"{request.source}: the picture of B-scan {missing[0]} of {len(names)} is not in the folder"
            )
        stack = picture_stack([by_name[name] for name in names], request)
        return to_volume(replace(stack, eye=_eye(series), spacing_mm=_spacing(series)), request)


def pictures_of(data: FileBytes, source: str) -> list[list[str]]:
    """Name the pictures of each volume. Raises: ScanError."""
    return [_names(series, source) for series in _series(data, source)]


def named_in(data: FileBytes, source: str) -> set[str]:
    """Name every picture of an export, fundus pictures too. Raises: ScanError."""
    urls = [
        image.findtext("ImageData/ExamURL") or "" for series in _all(data, source) for image in series.iter("Image")
    ]
    return {url.replace("\\", "/").rpartition("/")[2] for url in urls} - {""}


def _header(files: Sequence[ScanFile], request: Request) -> ScanFile:
    found = [file for file in files if HeyexXml().recognises(file.name, file.head)]
    if len(found) != 1:
        raise RefusedScan(f"{request.source}: expected one XML among the pictures, got {len(found)}")
    return found[0]


def _series(data: FileBytes, source: str) -> list[Xml.Element]:
    """Find the series with B-scans."""
    return [series for series in _all(data, source) if _bscans(series)]


def _all(data: FileBytes, source: str) -> list[Xml.Element]:
    """Find the series; a file that defines entities is not parsed."""
    plain = bytes(data[:LONGEST])
    if len(plain) == LONGEST or b"<!" in plain.replace(b"\0", b"").replace(b"<!--", b""):
        raise RefusedScan(f"{source}: expected a plain XML export, got one with definitions, or of more than 64 MiB")
    with damage(source, "XML", Xml.ParseError):
        root = Xml.fromstring(plain)  # noqa: S314 - without definitions there is nothing to expand
    return list(root.iter("Series"))


def _bscans(series: Xml.Element) -> list[Xml.Element]:
    return [image for image in series.findall("Image") if image.findtext("ImageType/Type") == "OCT"]


def _names(series: Xml.Element, source: str) -> list[str]:
    names = [(image.findtext("ImageData/ExamURL") or "").replace("\\", "/") for image in _bscans(series)]
    bases = [name.rpartition("/")[2] for name in names]
    for base in bases:
        require_plain_name(base, source)
    if len(set(bases)) < len(bases):
        raise DamagedScan(f"{source}: the XML names one picture twice")
    return bases


def _eye(series: Xml.Element) -> Eye:
    return EYES.get((series.findtext("Laterality") or "").strip(), Eye.UNKNOWN)


def _spacing(series: Xml.Element) -> Spacing | None:
    """Give the mean distance of the B-scans' beginnings and ends, and the size of a pixel of the first."""
    images = _bscans(series)
    axial, lateral = (_number(images[0], f"{CONTEXT}/Scale{axis}") for axis in "YX")
    if not (axial > 0 and lateral > 0):
        return None
    steps = list[float]()
    for end in ("Start", "End"):
        points = [[_number(image, f"{CONTEXT}/{end}/Coord/{axis}") for axis in "XY"] for image in images]
        steps += [math.dist(a, b) for a, b in pairwise(points)]
    between = sum(steps) / len(steps) if steps else math.nan
    return (between if between > 0 else math.nan), axial, lateral


def _number(image: Xml.Element, path: str) -> float:
    try:
        return float(image.findtext(path) or "nan")
    except ValueError:
        return math.nan
