"""One volume from the bucket to the encoder's input: every failure is a row with a reason."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import compress, layered_volume, make_file, measures
from pydicom.uid import JPEGLSLossless

import extract.dicom.decoder_pool as pool_module
from embeddings_store.errors import RunError
from embeddings_store.index import IndexRow
from embeddings_store.schema import Note, SpacingSource
from extract.bucket.catalogue import list_volumes
from extract.bucket.folder import FolderSource
from extract.bucket.source import Fetched, Wanted
from extract.errors import BucketError, FetchError
from extract.load import FailedVolume, LoadedVolume, new_loader
from extract.preset import PRESETS, Recipe
from extract.stages import StageClock

KEY = "retinal_oct/structural_oct/zeiss_cirrus/1001/1001_cirrus_mac_oct_l_1.2.3.dcm"
SIZE = (4, 16, 16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / KEY).parent.mkdir(parents=True)
    return tmp_path


def load(root: Path, data: bytes) -> LoadedVolume | FailedVolume:
    (root / KEY).write_bytes(data)
    loader = new_loader(FolderSource(root), Recipe(PRESETS["pretrain"], SIZE), StageClock())
    return loader(only_line(root))


def only_line(root: Path) -> IndexRow:
    (ref,) = list_volumes(FolderSource(root)).refs
    return IndexRow(0, ref)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_volume_knows_where_its_spacing_came_from_and_how_bright_it_is(root: Path, compressed: bool) -> None:
    group = {"SharedFunctionalGroupsSequence": [measures([0.1, 0.2], 0.3)]}
    voxels = layered_volume(8, 32, 32)
    volume = load(root, compress(voxels, JPEGLSLossless, **group) if compressed else make_file(voxels, **group))
    assert isinstance(volume, LoadedVolume)
    assert volume.facts.spacing_source == SpacingSource.SHARED
    assert volume.facts.intensity is not None
    assert volume.facts.intensity.mean == pytest.approx(voxels.mean(), rel=0.05)
    assert volume.image.std() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("etag", "noted"),
    [
        ("f" * 32, Note.ETAG_IS_NO_MD5), ("f" * 32 + "-2", Note.MD5_UNCHECKED), ("", Note.MD5_UNCHECKED),
        ("f" * 40, Note.MD5_UNCHECKED), (None, Note.NONE),
    ],
)  # fmt: skip
def test_an_etag_that_is_no_md5_is_noted(root: Path, etag: str | None, noted: Note) -> None:
    (root / KEY).write_bytes(make_file(layered_volume(8, 32, 32)))

    class Encrypted(FolderSource):
        def fetch(self, wanted: Wanted) -> Fetched:
            fetched = super().fetch(wanted)
            return fetched if etag is None else replace(fetched, etag=etag)

    loaded = new_loader(Encrypted(root), Recipe(PRESETS["pretrain"], SIZE), StageClock())(only_line(root))
    assert isinstance(loaded, LoadedVolume)
    assert loaded.facts.notes & (Note.ETAG_IS_NO_MD5 | Note.MD5_UNCHECKED) == noted


def test_a_decoder_that_takes_too_long_ends_as_an_error_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "FRAME_LIMIT_S", 0.0)
    failed = load(root, compress(layered_volume(8, 512, 512), JPEGLSLossless))
    assert isinstance(failed, FailedVolume)
    assert (failed.failure.stage, failed.failure.error) == ("decode", "DecodeTimeout")
    assert failed.failure.message.startswith(failed.line.ref.volume)


@pytest.mark.parametrize("error", [MemoryError("DOE^JANE"), ZeroDivisionError("DOE^JANE"), FetchError("v: gone")])
def test_whatever_happens_to_a_volume_is_its_row(root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> Iterator[np.ndarray]:
        raise error

    monkeypatch.setattr("extract.scan.read_dicom", fail)
    failed = load(root, make_file(layered_volume()))
    assert isinstance(failed, FailedVolume)
    assert failed.failure.error == type(error).__name__
    assert failed.failure.attempts == 1
    assert "DOE" not in failed.failure.message, "a foreign message may quote the file"


@pytest.mark.parametrize("error", [BucketError("no such bucket"), RunError("a decoder process does not start")])
def test_what_concerns_all_volumes_stops_the_run(root: Path, monkeypatch: pytest.MonkeyPatch, error: RunError) -> None:
    def fail(*_: object, **__: object) -> Iterator[np.ndarray]:
        raise error

    monkeypatch.setattr("extract.scan.read_dicom", fail)
    with pytest.raises(type(error)):
        load(root, make_file(layered_volume()))


def test_a_volume_in_flight_costs_its_bytes_and_its_input(root: Path) -> None:
    (root / KEY).write_bytes(make_file(layered_volume()))
    loader = new_loader(FolderSource(root), Recipe(PRESETS["pretrain"], SIZE), StageClock())
    assert loader.cost_bytes(only_line(root)) == (root / KEY).stat().st_size + 4 * 4 * 16 * 16
