"""Ten times the volumes take the same memory: what is in flight is bounded, and nothing is kept."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, OphthalmicTomographyImageStorage

SCRIPT = Path(sys.executable).parent / "extract-embeddings"
KEY = "retinal_oct/structural_oct/zeiss_cirrus/{0}/{0}_cirrus_mac_oct_l_1.2.{0}.dcm"
FEW, MANY = 50, 500
FRAMES, ROWS, COLUMNS = 64, 128, 128  # a megabyte: 450 of them that were kept would be seen


def make_bucket(root: Path, volumes: int) -> Path:
    """Write one volume, and link to it under many keys."""
    first = root / KEY.format(1000)
    for number in range(volumes):
        path = root / KEY.format(1000 + number)
        path.parent.mkdir(parents=True)
        if number:
            path.hardlink_to(first)
        else:
            path.write_bytes(one_volume())
    return root


def one_volume() -> bytes:
    from io import BytesIO

    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = OphthalmicTomographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = FRAMES, ROWS, COLUMNS
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    voxels = np.random.default_rng(0).integers(0, 200, (FRAMES, ROWS, COLUMNS), dtype=np.uint8)
    dataset.PixelData = voxels.tobytes()
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def run(bucket: Path, store: Path) -> dict[str, Any]:
    line = [
        SCRIPT,
        "--bucket",
        bucket,
        "--store",
        store,
        "--encoder",
        "random:tiny",
        "--image-size",
        "32,32,32",
        "--json",
    ]
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_memory_is_flat_from_50_to_500_volumes(tmp_path: Path) -> None:
    peaks = []
    for volumes in (FEW, MANY):
        summary = run(make_bucket(tmp_path / f"bucket-{volumes}", volumes), tmp_path / f"store-{volumes}")
        assert summary["committed"] == volumes
        peaks.append(summary["peak_rss_mb"])
    print(f"peak memory: {peaks[0]:.0f} MB with {FEW} volumes, {peaks[1]:.0f} MB with {MANY}")
    assert peaks[1] <= 1.1 * peaks[0]
