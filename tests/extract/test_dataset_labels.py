"""What a store goes on knowing of a dataset by name when the dataset's tables change between two extractions."""

from dataclasses import replace
from pathlib import Path

from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.dataset_labels import record_of


def test_only_labels_that_files_tell_are_carried_to_the_next_extraction(reference: Path) -> None:
    source = FolderSource(reference / "datasets" / "a2a" / "data")
    listing = list_volumes(source)
    key, *others = (key for key, scan in listing.scans.items() if scan.labels.get("amd"))
    listing = replace(listing, scans={**listing.scans, key: replace(listing.scans[key], labels={})})
    record = record_of(source, listing, set(), {key: {"amd": "9", "age": "71"}})
    assert record is not None
    labels = {line.file: line.labels for line in record.lines}
    assert labels[key] == {"age": "71"}  # the age lies in the file; what the tables no longer say is gone
    assert others and all(labels[other]["amd"] == listing.scans[other].labels["amd"] for other in others)
