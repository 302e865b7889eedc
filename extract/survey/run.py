"""The verb survey: list, look at every scan, write the table, and say what spoils papers."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from time import time_ns
from typing import Any

from embeddings_store.cells import quoted_cell
from embeddings_store.errors import UsageError
from embeddings_store.plain_text import visible
from embeddings_store.safe_keys import shortened
from embeddings_store.schema import Eye
from extract.bucket.catalogue import Catalogue, open_catalogue
from extract.bucket.open import open_source
from extract.bucket.source import Source
from extract.layouts.contract import Scan
from extract.layouts.dataset import Dataset
from extract.layouts.datasets import load_datasets
from extract.layouts.several import XML
from extract.layouts.table import IDENTIFIERS, Objects
from extract.survey.facts import Surveyed, look_at, objects_of
from extract.survey.options import SurveyOptions
from extract.survey.warnings import warn_of

AT_ONCE = 8
KNOWN = ("scan", "file", "participant", "eye", "split", "visit", "frames", "rows", "columns", "bits", "sha256")
OF_REF = ("device", "protocol", "site")


def survey(options: SurveyOptions) -> dict[str, Any]:
    """Write the table; give its summary. A survey that was cut off goes on. Raises: BucketError, UsageError."""
    source = open_source(options.bucket, options.prefix, options.endpoint_url, streams=AT_ONCE, layout=options)
    endpoint: str | None = getattr(source, "endpoint", options.endpoint_url)
    catalogue = open_catalogue(source, now_ns=time_ns(), endpoint_url=endpoint, layout=options)
    listing = catalogue.listing
    dataset = load_datasets().get(listing.layout)
    scans = dict(listing.scans) or {ref.key: Scan(ref, ref.key) for ref in listing.refs}
    volumes = _look_at_all(source, sorted(scans.values(), key=lambda scan: scan.name), dataset, options)
    warned = warn_of(listing, volumes, dataset)
    _write(options.out, _table(volumes, dataset, _here(catalogue), tuple(IDENTIFIERS) if options.identifiers else ()))
    if options.contact_sheet is not None:
        from extract.survey.contact_sheet import draw_contact_sheet

        draw_contact_sheet(source, volumes, options.contact_sheet)
    whole = [one for one in volumes if not one.fault]
    people = {one.scan.ref.participant for one in whole} - {""}
    unreadable = [found for one in volumes for found in unreadable_of(one)]
    return {
        "layout": listing.layout,
        "out": str(options.out),
        "listed": listing.listed,
        "volumes": len(whole),
        "participants": len(people),
        "eyes_known": len(
            {(one.scan.ref.participant, one.scan.ref.eye) for one in whole if one.scan.ref.eye != Eye.UNKNOWN}
        ),
        "frames": sum(one.frames for one in whole),
        "splits": dict(Counter(one.scan.split for one in whole)),
        "part_of_whole": dataset.part_of_whole(len(whole), len(people)) if dataset else "",
        "warnings": {one.code: one.count for one in warned},
        "warning_details": [{**asdict(one), "count": one.count} for one in warned],
        "ignored": dict(Counter(listing.ignored.values())),
        "ignored_files": [{"file": key, "why": why} for key, why in sorted(listing.ignored.items())],
        "unreadable": [{"file": key, "why": why} for key, why in unreadable],
        "skipped_reasons": dict(listing.skipped),
        "skipped_examples": {reason: shortened(key) for reason, key in listing.examples.items()},
    }


def _look_at_all(
    source: Source, scans: Sequence[Scan], dataset: Dataset | None, options: SurveyOptions
) -> list[Surveyed]:
    """Look at each scan, but not at those that a survey before this one, which was cut off, has seen."""
    path = options.out.with_name(f".{options.out.name}.unfinished")
    seen = _seen_before(path)

    def look(scan: Scan) -> Surveyed:
        known = seen.get(_name_of(scan, options))
        if known is not None:
            return Surveyed(scan, **known)
        return look_at(source, scan, dataset, checksums=options.checksums, identifiers=options.identifiers)

    found = []
    # With --identifiers it holds names, so it is its owner's alone.
    private = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    with os.fdopen(private, "a") as file, ThreadPoolExecutor(AT_ONCE) as pool:
        for one in pool.map(look, scans):
            found.append(one)
            name = _name_of(one.scan, options)
            if name not in seen and not one.is_passing:
                told = {key: value for key, value in vars(one).items() if key != "scan"}
                file.write(json.dumps([name, told]) + "\n")
    path.unlink(missing_ok=True)
    return found


def _seen_before(path: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            name, told = json.loads(line)
        except ValueError:  # the line at which it was cut off
            continue
        listed = {key: tuple(map(_tuple, value)) if isinstance(value, list) else value for key, value in told.items()}
        found[name] = listed
    return found


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _name_of(scan: Scan, options: SurveyOptions) -> str:
    """Name a scan as it is now: another object, or another question, is looked at anew."""
    told = "\n".join(f"{info.key}\0{info.size}\0{info.etag}" for info in objects_of(scan))
    asked = f"{options.checksums}\n{options.identifiers}\n{options.layout}\n{scan.ref.reading}"
    return sha256(f"{asked}\n{scan.labels}\n{scan.ref.key}\n{told}".encode()).hexdigest()


def _here(catalogue: Catalogue) -> Objects:
    """Find objects as --scans does; the XML files have been read already."""
    xml = {key: scan.ref for key, scan in catalogue.listing.scans.items() if XML in key.lower()}
    return Objects(catalogue.record.objects, {key: ref.members[1:] for key, ref in xml.items()})


def _table(volumes: Sequence[Surveyed], dataset: Dataset | None, here: Objects, identifiers: Sequence[str]) -> str:
    labels = list(dataset.columns) if dataset else sorted({name for one in volumes for name in one.labels})
    labels += [name for name in OF_REF if not dataset and any(getattr(one.scan.ref, name) for one in volumes)]
    labels = [*(name for name in labels if name not in identifiers), *identifiers]
    lines = [[*KNOWN, *labels, "notes"]]
    for one in volumes:
        if not one.fault:
            told = {name: getattr(one.scan.ref, name) for name in OF_REF} | dict(one.labels)
            told |= {name: one.identifiers.get(IDENTIFIERS[name], "") for name in identifiers}
            lines.append([*_known(one, here), *(told.get(name, "") for name in labels), _notes(one, here)])
        for key, why in unreadable_of(one):
            file = _file(one, here) if key == one.scan.ref.key else key
            lines.append([*_of_error(one, file), *("" for _ in labels), f"error: {why}"])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([quoted_cell(visible(cell)) for cell in line] for line in lines)
    return text.getvalue()


def unreadable_of(one: Surveyed) -> list[tuple[str, str]]:
    """Give what of a scan cannot be read, and why: files of its, and the scan where it is the whole of it."""
    whole = [(one.scan.ref.key, one.fault)] if one.fault else []
    return [*one.unreadable, *whole]


def _file(one: Surveyed, here: Objects) -> str:
    return here.name(one.scan.ref.key, one.files) or one.scan.ref.key


def _of_error(one: Surveyed, file: str) -> list[str]:
    """Give the known columns of an error line, which names no scan and has no size."""
    told = {"file": file, "participant": one.scan.ref.participant}
    return [told.get(name, "") for name in KNOWN]


def _known(one: Surveyed, here: Objects) -> list[str]:
    ref = one.scan.ref
    eye = "" if ref.eye == Eye.UNKNOWN else str(ref.eye)
    numbers = [str(number or "") for number in (one.frames, one.rows, one.columns, one.bits)]
    return [
        one.scan.name,
        _file(one, here),
        ref.participant,
        eye,
        one.scan.split,
        one.scan.visit,
        *numbers,
        one.sha256,
    ]


def _notes(one: Surveyed, here: Objects) -> str:
    notes = [f"missing slices {', '.join(map(str, one.missing))}"] if one.missing else []
    notes += [f"{len(one.unreadable)} unreadable files left out"] if one.unreadable else []
    if not here.name(one.scan.ref.key, one.files):
        notes.append("rename its files: --scans cannot list names with bars")
    return "; ".join(notes)


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UsageError(f"--out {path}: the table cannot be written: {error.strerror}") from error


def describe_survey(found: dict[str, Any]) -> str:
    """Put a survey into lines for a person."""
    who = f"{found['layout']}: {found['volumes']:,} scans of {found['participants']:,} participants"
    lines = [f"{who}, {found['frames']:,} frames, in {found['out']}"]
    lines += [found["part_of_whole"]] if found["part_of_whole"] else []
    lines += [f"ignored: {count:,} {why}" for why, count in found["ignored"].items()]
    lines += [f"error: {shortened(one['file'])}: {one['why']}" for one in found["unreadable"]]
    for one in found["warning_details"]:
        such = f", such as {shortened(one['concerns'][0])}" if one["concerns"] else ""
        lines.append(f"warning {one['code']}: {one['text']} ({one['count']:,}{such})")
    return "\n".join(lines)
