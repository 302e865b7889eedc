"""What a store keeps of a public dataset by name: its tasks, splits and the labels of every scan of the listing."""

from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType

from embeddings_store.dataset_record import (
    DatasetRecord,
    LabelLine,
    put_dataset_record,
    read_dataset_record,
)
from embeddings_store.errors import UsageError
from embeddings_store.schema import Eye, VolumeRef
from embeddings_store.storage import Storage
from embeddings_store.terminal.console import say
from extract.bucket.members import fetch_scan
from extract.bucket.source import Source
from extract.errors import FetchError, ScanError
from extract.layouts.contract import Listing, Scan
from extract.layouts.dataset import Dataset
from extract.layouts.datasets import load_datasets
from extract.layouts.inside import labels_in_file, labels_of_mask

AT_ONCE = 8


def keep_dataset(stores: Sequence[Storage], source: Source, listing: Listing, refs: Sequence[VolumeRef]) -> None:
    """Record in each store of which dataset it is, with the labels of all scans of the listing; else do nothing.

    Labels that lie with voxels are read here, of the volumes of this run: what a store knows already is not read again.
    Raises: UsageError where a store is of another dataset; StoreError.
    """
    dataset = load_datasets().get(listing.layout)
    if dataset is None:
        return
    if said := dataset.part_of_whole(len(listing.scans), len({ref.participant for ref in listing.refs})):
        say(said)
    known = {store.url: read_dataset_record(store) for store in stores}
    for url, old in known.items():
        if old is not None and old.name != listing.layout:
            raise UsageError(
                f"--store {url}: its labels are of the dataset {old.name}, and the bucket holds {listing.layout}: "
                "take another store"
            )
    before = {line.file: line.labels for old in known.values() if old for line in old.lines}
    record = record_of(source, listing, {ref.key for ref in refs}, before)
    for store in stores:
        old = known[store.url]
        gone = [line for line in old.lines if line.file not in listing.scans] if old else []
        if record is not None and (told := _with(record, gone)) != old:
            put_dataset_record(store, told)


def record_of(
    source: Source, listing: Listing, keys: Set[str], before: Mapping[str, Mapping[str, str]] = MappingProxyType({})
) -> DatasetRecord | None:
    """Say what a listing knows of its dataset; None where it is none by name.

    keys: of the scans whose files are opened for labels that only files tell; before: labels that were read before, of
    which those that tables tell are taken from the tables of now alone.
    """
    dataset = load_datasets().get(listing.layout)
    if dataset is None:
        return None
    by_tables = {name for scan in listing.scans.values() for name, value in scan.labels.items() if value}
    before = {key: {name: told for name, told in of.items() if name not in by_tables} for key, of in before.items()}
    before = before if dataset.inside or dataset.masks else {}
    inside = _labels_inside(source, listing, dataset, before, keys)
    lines = (_line(scan, before.get(key, {}), inside.get(key, {})) for key, scan in sorted(listing.scans.items()))
    card = dataset.card
    return DatasetRecord(
        listing.layout, card.title, card.citation, card.licence, dataset.tasks, dataset.splits, dataset.columns,
        tuple(lines), tuple(text for _, text in dataset.facts),
    )  # fmt: skip


def _with(record: DatasetRecord, lines: Sequence[LabelLine]) -> DatasetRecord:
    return replace(record, lines=tuple(sorted((*record.lines, *lines), key=lambda line: line.file)))


def _line(scan: Scan, before: Mapping[str, str], inside: Mapping[str, str]) -> LabelLine:
    """Give the line of a scan: what was read before, what tables say now, and above both what its file says now."""
    told = {name: value for found in (before, scan.labels, inside) for name, value in found.items() if value}
    eye = "" if scan.ref.eye == Eye.UNKNOWN else str(scan.ref.eye)
    return LabelLine(scan.ref.key, scan.ref.participant, eye, scan.split, scan.visit, told)


def _labels_inside(
    source: Source, listing: Listing, dataset: Dataset, before: Mapping[str, Mapping[str, str]], keys: Set[str]
) -> dict[str, Mapping[str, str]]:
    """Read the labels that only files tell, of the scans of a run; say how many had any."""
    if dataset.inside is None and not dataset.masks:
        return {}
    needed = dataset.masks[:1] or (dataset.inside_for,)
    wanted = [
        scan
        for key, scan in listing.scans.items()
        if key in keys and not any(of.get(name) for of in (before.get(key, {}), scan.labels) for name in needed)
    ]

    def look(scan: Scan) -> Mapping[str, str] | None:
        try:
            if dataset.masks:
                return labels_of_mask(source, scan, dataset)
            return labels_in_file(scan, fetch_scan(source, scan.ref, None), dataset)
        except (FetchError, ScanError):
            return None  # the volume gets an error row of its own

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip((scan.ref.key for scan in wanted), pool.map(look, wanted), strict=True))
    known = {key: labels for key, labels in found.items() if labels}
    if wanted:
        say(f"labels: {len(known):,} of {len(wanted):,} volumes have labels in their files; the others stay unknown")
    return known
