"""What a store goes on knowing of a dataset by name when the dataset's tables change between two extractions."""

from pathlib import Path

from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.dataset_labels import record_of


def test_only_labels_that_files_tell_are_carried_to_the_next_extraction(reference: Path) -> None:
    source = FolderSource(reference / "datasets" / "a2a" / "data")
    listing = list_volumes(source)
    told = {key: scan.labels for key, scan in listing.scans.items()}
    key = next(key for key, labels in told.items() if labels.get("amd"))
    record = record_of(source, listing, set(), {key: {"amd": "9", "class": "other", "age": "71"}})
    assert record is not None
    labels = {line.file: line.labels for line in record.lines}
    assert labels[key] == {**told[key], "age": "71"}  # the age lies in the file, the rest in the folders of now
    del labels[key]
    assert all(
        found == {name: value for name, value in told[other].items() if value} for other, found in labels.items()
    )
