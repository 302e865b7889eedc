"""Labels that lie with the voxels: numbers and words in the file of a volume, or a mask next to it."""

from collections.abc import Mapping

import numpy as np

from extract.bucket.members import FetchedMembers
from extract.bucket.source import Fetched, Source
from extract.layouts.contract import Scan
from extract.layouts.dataset import Dataset
from extract.readers.contract import ScanFile
from extract.readers.open import read_scan, volumes_in
from extract.scan import read_options


def labels_in_file(scan: Scan, fetched: Fetched | FetchedMembers, dataset: Dataset | None) -> Mapping[str, str]:
    """Give the labels that the file of a volume holds, as its dataset means them. Raises: ScanError."""
    if not isinstance(fetched, Fetched) or (dataset is not None and dataset.inside is None):
        return {}
    files = [ScanFile(scan.ref.key, fetched.data)]
    (inside, *_) = volumes_in(files, ref=scan.ref, options=read_options(scan.ref.reading))
    held = {name: _as_text(value) for name, value in inside.labels.items()}
    return held if dataset is None or dataset.inside is None else dataset.inside(scan, held)


def labels_of_mask(source: Source, scan: Scan, dataset: Dataset) -> Mapping[str, str] | None:
    """Give 1 or 0 for each label of the mask named reference next to a volume; None where there is no mask.

    Raises: FetchError, ScanError.
    """
    folder = scan.ref.key.rpartition("/")[0]
    listed = source.list_objects(folder + "/")
    objects = [info for info in listed if "/reference." in f"/{info.key[len(folder) + 1 :]}"]
    if not objects:
        return None
    files = [ScanFile(info.key, source.fetch(info).data) for info in objects]
    found = frozenset(np.unique(read_scan(files, ref=scan.ref).voxels).astype(int).tolist())
    return {name: str(int(number in found)) for number, name in enumerate(dataset.masks, 1)}


def _as_text(value: float | str) -> str:
    """Write a number as a person would: whole ones without a point, others with seven digits."""
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else f"{value:.7g}"
