"""What the key of an object says: a volume, a table, or why it is neither."""

import re
from enum import StrEnum

from embeddings_store.schema import Eye, ParticipantId, VolumeRef, volume_id
from extract.bucket.source import ObjectInfo

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
LAYOUT = "retinal_oct/structural_oct/<device>/<participant>/<participant>_<protocol>_oct_<l|r>_<UID>.dcm"

_VOLUME = re.compile(
    r"retinal_oct/structural_oct/(?P<device>[^/]+)/(?P<participant>\d{4})/"
    r"(?P=participant)_(?P<protocol>[^/]+?)(?:_oct)+_(?P<eye>[lr])_(?P<uid>[0-9.]+)\.dcm",
    re.ASCII,
)
_EYES = {"l": Eye.LEFT, "r": Eye.RIGHT}


class Skip(StrEnum):
    """Why an object becomes no row."""

    TABLE = "table"
    FOLDER = "folder marker"
    HIDDEN = "hidden file"
    EMPTY = "empty object"
    NOT_DICOM = "not a .dcm"
    LAYOUT = "not in the layout"
    DOUBLE = "named twice"
    CONTRADICTED = "manifest names another participant"
    OUTSIDE = "link out of the bucket"
    DANGLING = "link to nothing"
    CIRCLE = "link in a circle"
    SPECIAL = "neither file nor folder"


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
