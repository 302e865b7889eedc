"""Make and write the scans of one participant; runs in a worker process."""

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite

from embeddings_store.schema import Eye
from extract.phantom.dicom_file import Identity, encode, scan_dataset
from extract.phantom.eye import draw_eye
from extract.phantom.participants import Participant
from extract.phantom.plan import EYES, Plan
from extract.phantom.scan import Scan, make_scan, scan_seeds
from extract.phantom.tables import ManifestRow, manifest_row, scan_key


@dataclass(frozen=True, slots=True)
class Written:
    """One object that was written: key below the root, size, and its line of the manifest."""

    key: str
    size_bytes: int
    row: ManifestRow


def write_participant(root: Path, plan: Plan, person: Participant) -> list[Written]:
    """Write every scan of both eyes of one participant."""
    written = []
    for eye in EYES:
        for name in plan.protocols_of(person):
            scan, who = acquire(plan, person, name, eye)
            dataset = scan_dataset(scan, who)
            encode(dataset, plan.syntax)
            written.append(write_scan(root, plan, scan, who, dataset))
    return written


def acquire(plan: Plan, person: Participant, protocol: str, eye: Eye, repeat: int = 0) -> tuple[Scan, Identity]:
    """Acquire one scan of a participant; repeat > 0 is the same eye, scanned again."""
    traits = draw_eye(plan.seed, int(person.id), eye)
    seeds = scan_seeds(plan.seed, int(person.id), protocol, eye, repeat)
    scan = make_scan(
        traits,
        plan.protocol(protocol),
        seeds,
        thinning=plan.thinning,
        class_index=person.class_index,
        look=plan.look(person),
    )
    return scan, Identity(person.id, plan.seed, repeat)


def write_scan(root: Path, plan: Plan, scan: Scan, who: Identity, dataset: FileDataset) -> Written:
    """Write a dataset where the layout wants it."""
    uid = who.scan_uid(scan)
    key = scan_key(plan.schema, scan, who.participant, uid)
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return Written(key, path.stat().st_size, manifest_row(scan, who.participant, uid, key))
