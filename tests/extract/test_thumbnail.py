"""A thumbnail is the encoder's input, averaged over cells and stretched; every row of a run gets its own."""

from pathlib import Path

import numpy as np
import pytest
from small_bucket import fill_bucket, options

from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_features_source
from embeddings_store.verify import verify_store
from extract.dicom.reader import read_dicom
from extract.pipeline import extract
from extract.preprocess import preprocess
from extract.preset import PRESETS
from extract.thumbnail import make_thumbnail

SIZE = (8, 32, 32)


def test_each_cell_is_the_mean_of_its_voxels() -> None:
    image = np.random.default_rng(0).gamma(2.0, size=(64, 96, 128)).astype(np.float32)
    cells = image.astype(np.float64).reshape(8, 8, 32, 3, 32, 4).mean(axis=(1, 3, 5))
    expected = 255 * (cells - cells.min()) / (cells.max() - cells.min())
    found = make_thumbnail(image)
    assert (found.min(), found.max()) == (0, 255)
    assert np.abs(found - expected).max() < 0.501


def test_a_gain_and_a_shift_change_nothing() -> None:
    image = np.random.default_rng(0).gamma(2.0, size=(32, 96, 96)).astype(np.float32)
    apart = np.abs(make_thumbnail(image).astype(int) - make_thumbnail(300 * image + 20))
    assert apart.max() <= 1


@pytest.mark.parametrize("size", [(4, 16, 16), (1, 33, 100), (9, 31, 40), (8, 32, 32)])
def test_sizes_that_do_not_divide(size: tuple[int, int, int]) -> None:
    """A ramp along an axis stays one, from black to white, with as many steps as there are voxels or cells."""
    for axis, count in enumerate((8, 32, 32)):
        ramp = np.moveaxis(
            np.broadcast_to(np.arange(size[axis], dtype=np.float32), (*_others(size, axis), size[axis])), -1, axis
        )
        found = np.moveaxis(make_thumbnail(np.ascontiguousarray(ramp)), axis, -1)
        assert (found == found[0, 0]).all()
        assert (np.diff(found[0, 0].astype(int)) >= 0).all()
        assert len(np.unique(found)) == min(count, size[axis])


def _others(size: tuple[int, int, int], axis: int) -> tuple[int, ...]:
    return tuple(length for number, length in enumerate(size) if number != axis)


def test_a_constant_input_gives_zeros() -> None:
    assert not make_thumbnail(np.full(SIZE, 3.0, np.float32)).any()


@pytest.mark.parametrize("views", [0, 2])
def test_a_run_keeps_the_thumbnail_of_each_volume(tmp_path: Path, views: int) -> None:
    bucket, store = fill_bucket(tmp_path / "bucket", 3), tmp_path / "store"
    extract(options(bucket, store, views=views))
    found = read_features_source(str(store))
    assert found.thumbnails is not None
    assert found.thumbnails.all_known
    for key, picture in zip(found.index["key"], found.thumbnails.images, strict=True):
        volume = read_dicom((bucket / key).read_bytes())
        np.testing.assert_array_equal(picture, make_thumbnail(preprocess(volume, PRESETS["pretrain"], SIZE)[0]))
    assert len(np.unique(found.thumbnails.images, axis=0)) == 3
    assert verify_store(str(store))["bad"] == 0
    assert open_reader(str(store)).commits()["status"].tolist() == [3, 3, 3]
