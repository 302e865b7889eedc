"""The layout of a folder without a table: a pattern on the keys, or the DICOM headers, tell whose a scan is."""

import hmac
import os
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from embeddings_store.errors import UsageError
from embeddings_store.schema import ObjectInfo, Reading, VolumeRef
from embeddings_store.terminal.console import say
from extract.bucket.range_file import open_object
from extract.bucket.source import Source
from extract.errors import BucketError, FetchError, ScanError
from extract.layouts.contract import (
    COMPANIONS,
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
from extract.layouts.dicom_heads import AT_ONCE, Head, first_bytes, may_be_dicom, read_heads
from extract.layouts.several import KINDS, NOTHING, Held, look_into
from extract.readers.tiff import has_pages

EXPECTED: Mapping[str, str] = {
    Skip.LAYOUT: "a file of scans, with a key that matches --pattern if that is given",
    Skip.NO_PARTICIPANT: "a participant from the DICOM header, from --pattern, or from a table that survey makes",
}
GROUPS = ("participant", "eye", "device", "protocol", "visit", "split")


@dataclass(frozen=True)
class Told:
    """What a key or a header says of one object; series: single frames that share it are one volume.

    alone: a picture file that holds several B-scans is a volume of its own.
    """

    participant: str = ""
    eye: str = ""
    device: str = ""
    protocol: str = ""
    visit: str = ""
    split: str = ""
    series: str = ""
    alone: bool = False
    size: tuple[int, int, int, int] | None = field(default=None, compare=False)


class FolderLayout:
    """Folders of scans; pattern: a regular expression with named groups; secret: of the pseudonyms."""

    name = "folder"

    def __init__(self, pattern: str | None, secret: Path | None, reading: Reading) -> None:
        self._pattern, self._secret = compile_pattern(pattern) if pattern else None, secret
        self._reading = reading

    def find(self, source: Source, objects: Sequence[ObjectInfo]) -> Listing:
        """Name the scans: pictures and single frames of one folder are one volume, every other file is one of its own.

        Raises: BucketError where nothing is found; UsageError without a place for the secret.
        """
        skipped, examples = Counter[str](), dict[str, str]()
        usable, voxels = _set_voxels_aside([info for info in objects if junk_of(info) is None])
        told = self._from_keys(source, usable) if self._pattern else self._from_headers(source, usable)
        told = _part_tiffs(source, usable, told)
        held = self._look_into(source, usable, told)
        pictures = {info.key for one in held.values() for info in one.named}
        told = {key: one for key, one in told.items() if key not in pictures and held.get(key, NOTHING).is_scan}
        scans: dict[str, Scan] = {}
        for key, members in _volumes(usable, told).items():
            first = told[members[0].key]
            parts = [part for info in members for part in (info, *voxels.get(info.key, ()))]
            for name, reading, inside, own in held.get(key, NOTHING).rows(key, self._reading):
                told_eye = replace(first, eye=first.eye or str(inside.eye))
                ref = _ref(name, [*parts, *own], told_eye, reading)
                scans[name] = Scan(ref, name, first.split, first.visit, size=first.size)
        refs = [scan.ref for key, scan in sorted(scans.items()) if scan.ref.participant]
        grouped = {info.key for scan in scans.values() for info in (scan.ref.members or (scan.ref,))}
        for info in objects:
            reason = str(junk_of(info) or (Skip.LAYOUT if info.key not in grouped else ""))
            if reason:
                skipped[reason] += 1
                examples.setdefault(reason, info.key)
        for scan in scans.values():
            if not scan.ref.participant:
                skipped[Skip.NO_PARTICIPANT] += max(1, len(scan.ref.members))
                examples.setdefault(Skip.NO_PARTICIPANT, scan.ref.key)
        if not scans:
            raise BucketError(f"bucket {source.name}: {len(objects):,} objects, none of them a scan of --layout folder")
        skipped.update({str(reason): count for reason, count in source.counts.passed_over.items()})
        listed = len(objects) + source.counts.passed_over.total()
        return Listing(refs, listed, dict(skipped), self.name, scans, examples, EXPECTED)

    def _look_into(self, source: Source, objects: Sequence[ObjectInfo], told: Mapping[str, Told]) -> dict[str, Held]:
        folders: dict[str, list[ObjectInfo]] = defaultdict(list)
        for info in objects:
            folders[info.key.rpartition("/")[0]].append(info)
        files = [info for info in objects if info.key in told and info.key.lower().endswith(KINDS)]
        return look_into(source, files, folders)

    def _from_keys(self, source: Source, objects: Sequence[ObjectInfo]) -> dict[str, Told]:
        """Read the keys; and headers where several files that may be DICOM match alike: are they frames, or volumes?"""
        found, alike = dict[str, Told](), defaultdict[tuple[str, Told], list[ObjectInfo]](list)
        for info in objects:
            match = self._pattern.search(info.key) if self._pattern else None
            groups = {name: text or "" for name, text in match.groupdict().items()} if match else {}
            if match and not participant_fault(groups["participant"]) and is_eye(groups.get("eye", "")):
                participant, eye, device, protocol, visit, split = (groups.get(name, "") for name in GROUPS)
                found[info.key] = Told(participant, eye, device, protocol, visit, split)
                if may_be_dicom(info.key):
                    alike[info.key.rpartition("/")[0], found[info.key]].append(info)
        unsure = [info for infos in alike.values() if len(infos) > 1 for info in infos]
        for key, head in read_heads(source, unsure).items():
            found[key] = replace(found[key], series=head.frame_of, size=head.size)
        return found

    def _from_headers(self, source: Source, objects: Sequence[ObjectInfo]) -> dict[str, Told]:
        found = {info.key: Told() for info in objects if info.key.lower().endswith(KNOWN)}
        heads = read_heads(source, [info for info in objects if may_be_dicom(info.key)])
        secret = read_secret(self._secret) if any(head.patient for head in heads.values()) else b""
        return found | {key: _of_head(head, secret) for key, head in heads.items()}


def compile_pattern(pattern: str) -> "re.Pattern[str]":
    """Read --pattern. Raises: UsageError where it is none, or names no participant."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--pattern: expected a regular expression, got one that cannot be read ({error})") from error
    names = set(compiled.groupindex)
    if "participant" not in names or names - set(GROUPS):
        raise UsageError(
            f"--pattern: expected named groups of {', '.join(GROUPS)}, (?P<participant>...) among them; got "
            f"{', '.join(sorted(names)) or 'none'}"
        )
    return compiled


def read_secret(path: Path | None) -> bytes:
    """Read the secret of the pseudonyms, or make it, readable by its owner alone. Raises: UsageError."""
    if path is None:
        raise UsageError(
            "--layout folder: the headers name patients, of whom only pseudonyms may be kept; expected --pseudonyms "
            "FILE for their secret (made where there is none), as no folder of this machine is written to; or --pattern"
        )
    try:
        if not path.exists():
            _make_secret(path)
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--pseudonyms {path}: expected a file that can be read and written") from error
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise UsageError(f"--pseudonyms {path}: expected 64 hex digits, as this program writes them; got other text")
    return bytes.fromhex(text)


def _make_secret(path: Path) -> None:
    """Write a secret that only its owner can read; of two processes that race, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
        say(f"{path}: the secret of the pseudonyms was made; keep it, and keep it from those who must not know")


def pseudonym(patient: str, secret: bytes) -> str:
    """Give the pseudonym of a PatientID: without the secret nobody can tell whose it is."""
    return f"P{hmac.new(secret, patient.strip().encode(), 'sha256').hexdigest()[:16]}" if patient.strip() else ""


def _of_head(head: Head, secret: bytes) -> Told:
    return Told(
        participant=pseudonym(head.patient, secret),
        eye=head.eye if is_eye(head.eye) else "",
        device=head.device,
        protocol=head.protocol,
        series=head.frame_of,
        size=head.size,
    )


def _part_tiffs(source: Source, objects: Sequence[ObjectInfo], told: Mapping[str, Told]) -> dict[str, Told]:
    """Mark the TIFFs that would be stacked though they hold several pages: each is a volume."""
    alike = defaultdict[tuple[str, Told], list[ObjectInfo]](list)
    for info in objects:
        if info.key in told and info.key.lower().endswith((".tif", ".tiff")):
            alike[info.key.rpartition("/")[0], told[info.key]].append(info)
    unsure = [info for infos in alike.values() if len(infos) > 1 for info in infos]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pages = list(pool.map(partial(_holds_pages, source), unsure))
    paged = [info.key for info, many in zip(unsure, pages, strict=True) if many]
    return {**told, **{key: replace(told[key], alone=True) for key in paged}}


def _holds_pages(source: Source, info: ObjectInfo) -> bool:
    try:
        with open_object(source, info, first_bytes(source, info)) as stream:
            return has_pages(stream, info.key)
    except (FetchError, ScanError):  # its row says so
        return False


def _set_voxels_aside(objects: Sequence[ObjectInfo]) -> tuple[list[ObjectInfo], dict[str, list[ObjectInfo]]]:
    """Give the objects without those that hold the voxels of a header, and these by the key of their header."""
    folders: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in objects:
        folders[info.key.rpartition("/")[0]].append(info)
    headers = [info for info in objects if info.key.lower().endswith(tuple(COMPANIONS))]
    voxels = {info.key: with_companions(info, folders[info.key.rpartition("/")[0]])[1:] for info in headers}
    aside = {info.key for found in voxels.values() for info in found}
    return [info for info in objects if info.key not in aside], voxels


def _volumes(objects: Sequence[ObjectInfo], told: Mapping[str, Told]) -> dict[str, list[ObjectInfo]]:
    """Group objects: the pictures, and the single frames of a series, of one folder; every other file stands alone."""
    groups: dict[tuple[str, Told | str], list[ObjectInfo]] = defaultdict(list)
    for info in objects:
        if info.key in told:
            folder = info.key.rpartition("/")[0]
            alone = told[info.key].alone or not info.key.lower().endswith(PICTURES)
            groups[folder, info.key if alone and not told[info.key].series else told[info.key]].append(info)
    volumes: dict[str, list[ObjectInfo]] = {}
    folders = Counter(folder for folder, of in groups if not isinstance(of, str))
    for (folder, _), members in groups.items():
        members.sort(key=lambda info: natural(info.key))
        if len(members) == 1:
            key = members[0].key
        elif folders[folder] == 1:
            key = folder or "."
        else:  # several volumes lie in one folder: the first of each gives its name
            key = members[0].key
        volumes[key] = members
    return volumes


def _ref(key: str, members: Sequence[ObjectInfo], told: Told, reading: Reading) -> VolumeRef:
    words = {"eye": told.eye, "device": told.device, "protocol": told.protocol}
    return make_ref(key, members, told.participant, reading=reading, **words)
