"""A bucket of small volumes that differ, for tests of a whole pass in one process."""

from pathlib import Path
from typing import Any

import numpy as np
from dicom_files import compress, make_file
from pydicom.uid import JPEGLSLossless

from embeddings_store.command_line import parse_words
from embeddings_store.reader import StoreReader, open_reader
from extract.options import ExtractOptions

LAYOUT = "retinal_oct/structural_oct/zeiss_cirrus"
IMAGE_SIZE = "8,32,32"


def key_of(number: int) -> str:
    return f"{LAYOUT}/{1001 + number}/{1001 + number}_cirrus_mac_oct_l_1.2.{number + 1}.dcm"


def fill_bucket(root: Path, volumes: int, *, compressed: bool = False) -> Path:
    """Write so many volumes, each with voxels of its own; as uncompressed files, or in JPEG-LS."""
    for number in range(volumes):
        voxels = np.random.default_rng(number).integers(0, 200, (12, 40, 40), dtype=np.uint8)
        path = root / key_of(number)
        path.parent.mkdir(parents=True)
        path.write_bytes(compress(voxels, JPEGLSLossless) if compressed else make_file(voxels))
    return root


def options(bucket: Path, *stores: Path, **changed: Any) -> ExtractOptions:
    """Options of a run with a tiny random encoder for each store; the seed is the number of the store."""
    encoders = [f"random:tiny,seed={number}" for number in range(len(stores))]
    usual = {"encoder": encoders, "image_size": IMAGE_SIZE, "tokens": "2x2x2", "device": "cpu"}
    return parse_words(ExtractOptions, bucket=str(bucket), store=[str(store) for store in stores], **(usual | changed))


def rows(store: Path) -> dict[str, np.ndarray]:
    """Give every committed row by key: pooled vectors, tokens and facts in one array."""
    reader = open_reader(str(store))
    index = reader.index()[reader.committed()]
    numbers = index["row"].tolist()
    if not numbers:
        return {}
    facts = reader.facts(numbers).to_numpy(dtype=np.float64)
    found = zip(index["key"], reader.pooled(numbers), tokens_of(reader, numbers), facts, strict=True)
    return {key: np.concatenate([part.ravel().astype(np.float64) for part in parts]) for key, *parts in found}


def tokens_of(reader: StoreReader, numbers: list[int]) -> list[np.ndarray]:
    return [reader.tokens(row, "last") for row in numbers]


def errors(store: Path) -> dict[str, tuple[str, str]]:
    """Give (stage, class) of every error row by key."""
    reader = open_reader(str(store))
    keys = reader.index().set_index("row")["key"]
    return {keys[record.row]: (record.failure.stage, record.failure.error) for record in reader.errors()}


def assert_same_rows(one: Path, other: Path) -> None:
    """Compare two stores bit by bit."""
    mine, theirs = rows(one), rows(other)
    assert mine.keys() == theirs.keys()
    for key, numbers in mine.items():
        np.testing.assert_array_equal(numbers, theirs[key], err_msg=key)
