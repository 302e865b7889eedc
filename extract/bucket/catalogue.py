"""The catalogue: what a bucket holds, listed once and kept, so that the next start asks for no listing.

The flat listing is the truth about objects even where a manifest exists: it costs one request a thousand keys, once,
and only it knows sizes, etags, junk and files that the manifest forgot; the manifest adds frames, eye and participant.
Local folders are walked every time: that is as fast as reading a catalogue, and never old.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from time import time_ns

from embeddings_store.schema import VolumeRef
from extract.bucket.catalogue_file import BucketRecord, catalogue_path, read_record, write_record
from extract.bucket.folder import FolderSource
from extract.bucket.manifest import UNKNOWN_FRAMES, ManifestLine, read_manifest_lines
from extract.bucket.participants import Enrolled, read_participants
from extract.bucket.source import Source
from extract.errors import BucketError
from extract.layouts.ai_readi import MANIFEST, PARTICIPANTS
from extract.layouts.contract import Listing
from extract.layouts.open import find_layout
from extract.layouts.options import LayoutOptions

AUTO = LayoutOptions()
"""AI-READI where keys match it, or the public dataset that alone fits."""

MAX_AGE_S = 86_400.0
"""A kept listing older than a day is made anew."""


@dataclass(frozen=True)
class Catalogue:
    """A look at the bucket. from_cache: it is an earlier one; kept: the next start will find it.

    replaced_age_s: how old the kept look was that was too old to be used; None where none was. notes: what was mended
    in participants.tsv, or why it could not be read.
    """

    record: BucketRecord
    listing: Listing
    age_s: float
    from_cache: bool
    kept: bool
    replaced_age_s: float | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def lines(self) -> Mapping[str, ManifestLine]:
        """What the manifest says, by key."""
        return {line.key: line for line in self.record.manifest or ()}

    @cached_property
    def _splits(self) -> Mapping[str, str]:
        return {person.participant: person.split for person in self.record.participants}

    def split(self, ref: VolumeRef) -> str:
        """Give the split of a volume: as its layout has it, or the one recommended for its participant; "" unknown."""
        scan = self.listing.scans.get(ref.key)
        return (scan.split if scan else "") or self._splits.get(ref.participant, "")

    def frames(self, key: str) -> int:
        """Give the number of frames of an object, -1 where no manifest says."""
        line = self.lines.get(key)
        return UNKNOWN_FRAMES if line is None else line.frames


def open_catalogue(
    source: Source,
    *,
    now_ns: int,
    endpoint_url: str | None = None,
    refresh: bool = False,
    layout: LayoutOptions = AUTO,
) -> Catalogue:
    """Read the kept catalogue of a source, or list the source and keep what came.

    One request for participants.tsv is made at every start: it proves that the bucket may be read, and another table
    than the one of the catalogue means another release, so the bucket is listed anew. A bucket without the table gives
    no such proof and is listed every time. A damaged catalogue is replaced, and so is one older than MAX_AGE_S:
    objects that came since are seen without being asked for.
    Raises: BucketError when the bucket cannot be used, or nothing in it is recognised.
    """
    table = source.read_optional(PARTICIPANTS)
    token = sha256(table).hexdigest() if table is not None else ""
    enrolled, notes = _enrolled(table)
    path = catalogue_path(f"{endpoint_url or ''}\n{source.name}")
    keep = bool(token) and not isinstance(source, FolderSource)
    record = read_record(path) if keep and not refresh else None
    age_s = None if record is None or record.token != token else (now_ns - record.listed_at_ns) / 1e9
    if record is not None and age_s is not None and 0 <= age_s <= MAX_AGE_S:
        return replace(_catalogue(source, record, now_ns, layout, from_cache=True, kept=True), notes=notes)
    look = _look(source, enrolled, token, now_ns)
    fresh = _catalogue(source, look, now_ns, layout, from_cache=False, kept=False)
    catalogue = replace(fresh, replaced_age_s=age_s, notes=notes)
    if not keep:
        return catalogue
    try:
        write_record(path, catalogue.record)
    except (OSError, sqlite3.Error):  # a home that cannot be written only costs the next start a listing
        return catalogue
    return replace(catalogue, kept=True)


def list_volumes(source: Source, *, now_ns: int | None = None) -> Listing:
    """Name every volume of a source, in the layout that it was opened with, from the catalogue that all commands share.

    Raises: BucketError when nothing is recognised; it says what was seen and which layout was expected.
    """
    endpoint: str | None = getattr(source, "endpoint", None)
    found: object = getattr(source, "layout", None)
    layout = found if isinstance(found, LayoutOptions) else AUTO
    now_ns = time_ns() if now_ns is None else now_ns
    return open_catalogue(source, now_ns=now_ns, endpoint_url=endpoint, layout=layout).listing


def _look(source: Source, enrolled: tuple[Enrolled, ...], token: str, now_ns: int) -> BucketRecord:
    manifest = source.read_optional(MANIFEST)
    return BucketRecord(
        listed_at_ns=now_ns,
        token=token,
        objects=tuple(sorted(source.list_objects(), key=lambda info: info.key)),
        manifest=None if manifest is None else tuple(read_manifest_lines(manifest)),
        participants=enrolled,
    )


def _enrolled(table: bytes | None) -> tuple[tuple[Enrolled, ...], tuple[str, ...]]:
    """Read the table, and what to say of it; an unreadable one counts as absent: no volume needs it to be encoded."""
    if table is None:
        return (), ()
    try:
        enrolled, notes = read_participants(table)
    except BucketError as error:
        return (), (f"{error}; the table counts as absent: nobody's split or enrolment is known here",)
    return tuple(enrolled), tuple(notes)


def _catalogue(
    source: Source, record: BucketRecord, now_ns: int, layout: LayoutOptions, *, from_cache: bool, kept: bool
) -> Catalogue:
    said = {line.key: line.participant for line in record.manifest or ()}
    listing = find_layout(layout, said, record.objects).find(source, record.objects)
    age_s = max(0.0, (now_ns - record.listed_at_ns) / 1e9)
    return Catalogue(record, listing, age_s, from_cache, kept)
