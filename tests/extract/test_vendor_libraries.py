"""The vendor readers against eyepy and oct-converter, where these are installed: the same voxels, the same eye.

Neither is needed by any reader. To compare: pip install --no-deps eyepy oct-converter construct construct-typing
imageio natsort scikit-image lazy_loader opencv-python-headless
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vendor_files import make_bioptigen, make_e2e, make_topcon, make_vol

from embeddings_store.schema import Eye
from extract.readers.contract import ScanFile
from extract.readers.open import read_scan

RNG = np.random.default_rng(0)
WORDS = RNG.integers(40 << 10, 60 << 10, (4, 16, 24)).astype(np.uint16)
DEEP = RNG.integers(0, 1 << 16, (4, 16, 24)).astype(np.uint16)


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed: nothing to compare with", exc_type=ImportError)


def test_vol_as_eyepy_reads_it(tmp_path: Path) -> None:
    eyepy, path = library("eyepy"), tmp_path / "a.vol"
    path.write_bytes(make_vol(RNG.integers(1, 255, (5, 16, 24), dtype=np.uint8)))
    theirs, ours = eyepy.import_heyex_vol(path), read_scan([ScanFile("a.vol", path.read_bytes())])
    assert np.array_equal(theirs.data, ours.voxels)
    assert (theirs.laterality, ours.eye) == ("OS", Eye.LEFT)


@pytest.mark.parametrize(
    ("kind", "name", "data"),
    [
        ("E2E", "a.e2e", make_e2e([(b"R", WORDS)])),
        ("FDA", "a.fda", make_topcon(DEEP)),
        ("FDS", "a.fds", make_topcon(DEEP, fds=True)),
        ("BOCT", "a.OCT", make_bioptigen(DEEP[None])),
    ],
)
def test_files_as_oct_converter_reads_them(
    kind: str, name: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers, path = library("oct_converter.readers"), tmp_path / name
    monkeypatch.setattr(np, "fromstring", np.frombuffer, raising=False)  # gone since
    path.write_bytes(data)
    found = getattr(readers, kind)(path).read_oct_volume()
    theirs = np.stack((found[0] if isinstance(found, list) else found).volume).astype(np.float64)
    ours = read_scan([ScanFile(name, data)]).voxels
    if kind == "BOCT":  # it leaves A-scans lying
        theirs = theirs.transpose(0, 2, 1)
    if kind == "E2E":  # shares of 1, which HEYEX shows as 255 greys
        assert np.abs(255 * theirs - ours).max() <= 1
    else:
        assert np.array_equal(theirs, ours)
