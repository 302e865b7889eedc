"""Objects and rows as they go wrong in real buckets, each kind on request and by name.

Every kind adds to the healthy bucket and replaces nothing: what was there without it is there with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from extract.phantom.dicom_file import Identity, encode, scan_dataset, spacing_group
from extract.phantom.participants import FLAGS, Participant
from extract.phantom.plan import EYES, Plan
from extract.phantom.scan import Scan
from extract.phantom.tables import ManifestRow
from extract.phantom.worker import Written, acquire, write_scan

FIRST_REPEAT = 100
KEPT_SHARE = 0.6
GHOST_ID = "1000"
UNFLAGGED_ID = "4000"
"""Healthy ids start at 1001, 4001 and 7001."""


@dataclass(slots=True)
class Damage:
    """What a kind added: keys (or, for a row without objects, the participant id), manifest lines, people."""

    keys: list[str] = field(default_factory=list)
    rows: list[ManifestRow] = field(default_factory=list)
    people: list[Participant] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Patient:
    """The participant, scan and dataset that a kind works on."""

    root: Path
    plan: Plan
    person: Participant
    scan: Scan
    who: Identity

    def dataset(self, syntax: str = "explicit") -> FileDataset:
        """Describe the scan afresh."""
        dataset = scan_dataset(self.scan, self.who)
        encode(dataset, syntax)
        return dataset

    def write(self, dataset: FileDataset) -> Written:
        """Write it where the layout wants it."""
        return write_scan(self.root, self.plan, self.scan, self.who, dataset)


def break_bucket(root: Path, plan: Plan, people: list[Participant]) -> dict[str, Damage]:
    """Make every kind that the plan names once, spread over the participants."""
    return {kind: _break_once(root, plan, people, kind) for kind in plan.breaks}


def _break_once(root: Path, plan: Plan, people: list[Participant], kind: str) -> Damage:
    number = list(KINDS).index(kind)
    person = people[number % len(people)]
    protocol = "cirrus_mac" if kind == "cirrus-thickness" else plan.protocols_of(person)[0]
    scan, who = acquire(plan, person, protocol, EYES[number % 2], FIRST_REPEAT + number)
    return KINDS[kind](Patient(root, plan, person, scan, who))


def _written(one: Written) -> Damage:
    return Damage([one.key], [one.row])


def _cut(patient: Patient, dataset: FileDataset) -> Damage:
    """Keep the first part of the file, as a broken transfer does."""
    one = patient.write(dataset)
    path = patient.root / one.key
    path.write_bytes(path.read_bytes()[: int(KEPT_SHARE * one.size_bytes)])
    return _written(one)


def _truncated_native(patient: Patient) -> Damage:
    return _cut(patient, patient.dataset("explicit"))


def _truncated_encapsulated(patient: Patient) -> Damage:
    return _cut(patient, patient.dataset("rle"))


def _no_pixeldata(patient: Patient) -> Damage:
    dataset = patient.dataset()
    del dataset.PixelData
    return _written(patient.write(dataset))


def _no_offset_table(patient: Patient) -> Damage:
    """Encapsulate as RLE with an empty Basic Offset Table: readable, one fragment a frame."""
    dataset = patient.dataset()
    frames = get_encoder(RLELossless).iter_encode(dataset, encoding_plugin="pylibjpeg")
    dataset.PixelData = encapsulate(list(frames), has_bot=False)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = RLELossless
    return _written(patient.write(dataset))


def _empty_pixelmeasures(patient: Patient) -> Damage:
    """Write the elements that the converter could not fill, empty: readable, without spacing."""
    measures = Dataset()
    measures.PixelSpacing = None
    measures.SliceThickness = None
    group = Dataset()
    group.PixelMeasuresSequence = Sequence([measures])
    dataset = patient.dataset()
    dataset.SharedFunctionalGroupsSequence = Sequence([group])
    dataset.pop("PerFrameFunctionalGroupsSequence", None)
    return _written(patient.write(dataset))


def _cirrus_thickness(patient: Patient) -> Damage:
    """Write the lateral spacing into SliceThickness, as the Cirrus converter did: readable, 4x too thin."""
    protocol = patient.scan.protocol
    dataset = patient.dataset()
    group = spacing_group(protocol.axial_mm, protocol.lateral_mm, protocol.lateral_mm)
    dataset.SharedFunctionalGroupsSequence = Sequence([group])
    return _written(patient.write(dataset))


def _per_frame_spacing(patient: Patient) -> Damage:
    """Give pixel measures in the per-frame groups only: readable."""
    protocol = patient.scan.protocol
    thickness = None if protocol.radial else protocol.frame_mm
    groups = [spacing_group(protocol.axial_mm, lateral, thickness) for lateral in patient.scan.lateral_mm]
    dataset = patient.dataset()
    dataset.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return _written(patient.write(dataset))


def _frame_count_mismatch(patient: Patient) -> Damage:
    """Declare one frame fewer than is stored."""
    dataset = patient.dataset()
    dataset.NumberOfFrames = patient.scan.voxels.shape[0] - 1
    return _written(patient.write(dataset))


def _duplicate_scan(patient: Patient) -> Damage:
    """Scan the same eye with the same protocol once more: healthy, and one too many."""
    return _written(patient.write(patient.dataset(patient.plan.syntax)))


def _flag_without_folder(_patient: Patient) -> Damage:
    """Add a participant whose row promises OCT and who has no folder."""
    return Damage([GHOST_ID], [], [_stranger(GHOST_ID, "UW", has_oct=True)])


def _folder_without_flag(patient: Patient) -> Damage:
    """Add a participant with a scan whose row denies OCT."""
    person = _stranger(UNFLAGGED_ID, "UCSD", has_oct=False)
    scan, who = acquire(patient.plan, person, patient.scan.protocol.name, patient.scan.eye)
    dataset = scan_dataset(scan, who)
    encode(dataset, patient.plan.syntax)
    one = write_scan(patient.root, patient.plan, scan, who, dataset)
    return Damage([one.key], [one.row], [person])


def _junk(patient: Patient) -> Damage:
    """Leave what file managers and stopped uploads leave: .DS_Store, AppleDouble, an archive, an empty object."""
    whole = patient.write(patient.dataset())
    home = Path(whole.key)
    (patient.root / home).write_bytes(b"")
    litter = {
        home.parent.parent / ".DS_Store": b"\0\0\0\1Bud1" + bytes(120),
        home.parent / f"._{home.name}": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100),
        home.parent.parent.parent / f"{home.parent.parent.name}.zip": b"PK\5\6" + bytes(18),
    }
    for key, content in litter.items():
        (patient.root / key).write_bytes(content)
    return Damage([home.as_posix(), *(key.as_posix() for key in litter)])


def _stranger(number: str, site: str, *, has_oct: bool) -> Participant:
    flags = tuple(has_oct if flag == "retinal_oct" else True for flag in FLAGS)
    return Participant(number, site, 0, 60, date(2024, 1, 1), "train", flags)


KINDS: dict[str, Callable[[Patient], Damage]] = {
    "truncated-native": _truncated_native,
    "truncated-encapsulated": _truncated_encapsulated,
    "no-pixeldata": _no_pixeldata,
    "no-offset-table": _no_offset_table,
    "empty-pixelmeasures": _empty_pixelmeasures,
    "cirrus-thickness": _cirrus_thickness,
    "per-frame-spacing": _per_frame_spacing,
    "frame-count-mismatch": _frame_count_mismatch,
    "duplicate-scan": _duplicate_scan,
    "flag-without-folder": _flag_without_folder,
    "folder-without-flag": _folder_without_flag,
    "junk": _junk,
}
