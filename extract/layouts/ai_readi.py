"""AI-READI: its pattern of keys, its four digits, its protocols and its manifest (docs: the bucket's layout)."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from embeddings_store.schema import AI_READI_FOLDER, Eye, ObjectInfo, ParticipantId, VolumeRef, volume_id
from extract.bucket.source import Source
from extract.errors import BucketError
from extract.layouts.contract import Listing, Skip

NAME = "ai-readi"
PROTOCOLS = frozenset(
    {
        "spectralis_onh_rc_hr",
        "spectralis_ppol_mac_hr",
        "spectralis_mac_20x20_hs_octa",
        "maestro2_3d_wide",
        "maestro2_3d_macula",
        "maestro2_macula_6x6",
        "triton_3d_radial",
        "triton_macula_6x6",
        "triton_macula_12x12",
        "cirrus_mac",
        "cirrus_disc",
        "cirrus_macula_6x6_octa",
        "cirrus_disc_6x6_octa",
    }
)
"""The protocols of AI-READI v2 and v3; others are kept under their own name and noted."""

MANIFEST = "retinal_oct/manifest.tsv"
PARTICIPANTS = "participants.tsv"
LAYOUT = f"{AI_READI_FOLDER}<device>/<participant>/<participant>_<protocol>_oct_<l|r>_<UID>.dcm"
EXPECTED: Mapping[str, str] = {
    Skip.NOT_DICOM: "a name that ends in .dcm, in small letters",
    Skip.LAYOUT: f"{LAYOUT}, with a participant of four digits",
}
"""What was expected of what is skipped."""

_VOLUME = re.compile(
    rf"{AI_READI_FOLDER}(?P<device>[^/]+)/(?P<participant>\d{{4}})/"
    r"(?P=participant)_(?P<protocol>[^/]+?)(?:_oct)+_(?P<eye>[lr])_(?P<uid>[0-9.]+)\.dcm",
    re.ASCII,
)
_EYES = {"l": Eye.LEFT, "r": Eye.RIGHT}


class AiReadi:
    """The layout of AI-READI; owners: the participant of each key by the manifest, which must agree with the path."""

    name = NAME

    def __init__(self, owners: Mapping[str, str]) -> None:
        self._owners = owners

    def find(self, source: Source, objects: Sequence[ObjectInfo]) -> Listing:
        """Name every volume by its key. Raises: BucketError when nothing is recognised."""
        refs: dict[str, VolumeRef] = {}
        skipped: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for info in objects:
            parsed = parse_object(info)
            if not isinstance(parsed, Skip):
                if self._owners.get(info.key, "") not in {"", parsed.participant}:
                    parsed = Skip.CONTRADICTED
                elif info.key in refs:
                    parsed = Skip.DOUBLE
            if isinstance(parsed, Skip):
                skipped[parsed.value] += 1
                examples.setdefault(parsed.value, info.key)
            else:
                refs[info.key] = parsed
        passed_over = source.counts.passed_over
        skipped.update({str(reason): count for reason, count in passed_over.items()})
        listed = len(objects) + passed_over.total()
        if not refs:
            raise BucketError(_describe_nothing(source, listed, skipped))
        return Listing(
            [refs[key] for key in sorted(refs)], listed, dict(skipped), NAME, examples=examples, expected=EXPECTED
        )


def parse_object(info: ObjectInfo) -> VolumeRef | Skip:
    """Read a volume out of its key (DATA.md, section 1), or tell why it is none.

    The participant is the path component after the device, never four digits found elsewhere: UIDs hold those too.
    """
    name = info.key.rpartition("/")[2]
    if not name:
        return Skip.FOLDER
    if name.startswith("."):
        return Skip.HIDDEN
    if name.endswith((".tsv", ".csv")):
        return Skip.TABLE
    if not name.endswith(".dcm"):
        return Skip.NOT_DICOM
    if info.size == 0:
        return Skip.EMPTY
    return _parse_volume(info) or Skip.LAYOUT


def names_protocol(ref: VolumeRef) -> bool:
    """Say whether the protocol of a scan is a known one; of other layouts than this, none is unknown."""
    return not ref.protocol or not ref.key.startswith(AI_READI_FOLDER) or ref.protocol in PROTOCOLS


def _parse_volume(info: ObjectInfo) -> VolumeRef | None:
    match = _VOLUME.fullmatch(info.key)
    if match is None:
        return None
    return VolumeRef(
        key=info.key,
        size=info.size,
        etag=info.etag,
        volume=volume_id(info.key),
        participant=ParticipantId(match["participant"]),
        eye=_EYES[match["eye"]],
        device=match["device"],
        protocol=match["protocol"],
    )


def _describe_nothing(source: Source, listed: int, skipped: Mapping[str, int]) -> str:
    if not listed:
        seen = "nothing is there"
    else:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(skipped.items()))
        seen = f"{listed:,} objects, none of them a volume ({reasons})"
    return (
        f"bucket {source.name}: {seen}; expected {LAYOUT} below the prefix: is --prefix right? Of scans in other "
        "layouts, extract-embeddings survey makes the table that --scans takes"
    )
