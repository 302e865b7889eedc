"""participants.tsv and manifest.tsv, in the columns of release v2 or v3."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from extract.phantom.participants import FLAGS, STUDY_GROUPS, Participant
from extract.phantom.scan import Scan
from extract.phantom.scanners import SCANNERS

Schema = Literal["v2", "v3"]
ID_COLUMN: dict[Schema, str] = {"v2": "participant_id", "v3": "person_id"}

DOUBLED_TOKEN_PREFIX = "maestro2_"
"""In v3 the names of these protocols carry the doubled token "_oct_oct_"."""

NOT_REPORTED = "Not reported"

MANIFEST_COLUMNS = (
    "manufacturer",
    "manufacturers_model_name",
    "anatomic_region",
    "imaging",
    "laterality",
    "height",
    "width",
    "number_of_frames",
    "pixel_spacing",
    "slice_thickness",
    "sop_instance_uid",
    "filepath",
    "reference_instance_uid",
    "reference_filepath",
)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One line of manifest.tsv: the participant, then MANIFEST_COLUMNS."""

    participant: str
    values: tuple[str, ...]


def scan_key(schema: Schema, scan: Scan, participant: str, uid: str) -> str:
    """Name the object of a scan below the dataset's root."""
    device, protocol, eye = scan.protocol.device, scan.protocol.name, str(scan.eye)
    token = "oct_oct" if schema == "v3" and protocol.startswith(DOUBLED_TOKEN_PREFIX) else "oct"
    name = f"{participant}_{protocol}_{token}_{eye.lower()}_{uid}.dcm"
    return f"retinal_oct/structural_oct/{device}/{participant}/{name}"


def manifest_row(scan: Scan, participant: str, uid: str, key: str) -> ManifestRow:
    """Describe a scan as the manifest does; the radial protocol's spacing varies by frame."""
    protocol, scanner = scan.protocol, SCANNERS[scan.protocol.device]
    frames, rows, columns = scan.voxels.shape
    spacing = f"[{protocol.axial_mm:.6g}, {protocol.lateral_mm:.6g}]"
    values = (
        scanner.manufacturer,
        scanner.model,
        protocol.region,
        "OCTA" if protocol.octa else "OCT",
        str(scan.eye),
        str(rows),
        str(columns),
        str(frames),
        "Varies by frame" if protocol.radial else spacing,
        NOT_REPORTED if protocol.radial else f"{protocol.frame_mm:.6g}",
        uid,
        f"/{key}",
        NOT_REPORTED,
        NOT_REPORTED,
    )
    return ManifestRow(participant, values)


def manifest_text(rows: Iterable[ManifestRow], schema: Schema) -> str:
    """Write the manifest, sorted by file path."""
    at = MANIFEST_COLUMNS.index("filepath")
    ordered = sorted(rows, key=lambda row: row.values[at])
    return _lines([(ID_COLUMN[schema], *MANIFEST_COLUMNS), *((row.participant, *row.values) for row in ordered)])


def participants_text(people: Sequence[Participant], schema: Schema) -> str:
    """Write the table of participants, sorted by id."""
    header = (ID_COLUMN[schema], "clinical_site", "study_group", "age", "study_visit_date", "recommended_split", *FLAGS)
    rows = [_participant_row(person) for person in sorted(people, key=lambda person: person.id)]
    return _lines([header, *rows])


def _participant_row(person: Participant) -> tuple[str, ...]:
    flags = tuple("TRUE" if flag else "FALSE" for flag in person.flags)
    group = STUDY_GROUPS[person.class_index]
    return (person.id, person.site, group, str(person.age), person.visit.isoformat(), person.split, *flags)


def _lines(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)
