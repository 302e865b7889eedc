"""Views of a volume: seeded by the volume alone, pooled beside it, and of no influence on the volume's own row."""

from pathlib import Path

import numpy as np
import pytest
from command_line import Command

from embeddings_store.reader import open_reader
from embeddings_store.schema import Eye
from extract.device.cpu import CpuBackend
from extract.encode import BatchEncoder
from extract.encoder.open import open_encoder
from extract.views import Views

VOLUME = "0123456789abcdef"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    grey = np.random.default_rng(3).random((1, 8, 24, 24), dtype=np.float32)
    return (grey - grey.mean()) / grey.std()


def test_a_view_depends_on_seed_number_and_volume_alone(image: np.ndarray) -> None:
    both, first = (Views(count).beside(image, Eye.LEFT, VOLUME) for count in (2, 1))
    assert both.shape == (3, 8, 24, 24)
    assert np.array_equal(both[:1], image)
    assert np.array_equal(both[:2], first), "one more view changes none of the others"
    again, seeded = (Views(2, seed).beside(image, Eye.LEFT, VOLUME) for seed in (0, 1))
    assert np.array_equal(both, again)
    other = Views(2).beside(image, Eye.LEFT, VOLUME[::-1])
    for unlike in (seeded, other):
        assert not np.allclose(both[1], unlike[1])
    assert not np.allclose(both[1], both[2])
    assert np.allclose(both.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    assert np.allclose(both.std(axis=(1, 2, 3)), 1, atol=1e-4)


def test_no_views_are_the_volume_itself(image: np.ndarray) -> None:
    assert Views(0).beside(image, Eye.LEFT, VOLUME) is image


def test_views_are_pooled_as_if_they_were_volumes() -> None:
    """Each view's pools stand behind those of the volume, and are what a forward of the view alone gives."""
    encoder = open_encoder(checkpoint=None, encoder="random:tiny")
    size = encoder.architecture.image_size
    seen = np.random.default_rng(0).standard_normal((2, 3, *size), dtype=np.float32)
    batches = BatchEncoder(encoder, CpuBackend("fp32"), pools=("mean", "max"), token_grid=(1, 1, 1), batch_size=2)
    together = batches.encode(seen)
    assert together.pooled.shape[1:3] == (1, 6)
    for view in range(3):
        alone = batches.encode(np.ascontiguousarray(seen[:, view : view + 1]))
        np.testing.assert_array_equal(together.pooled[:, :, 2 * view : 2 * view + 2], alone.pooled)
        if view == 0:
            np.testing.assert_array_equal(together.tokens["last"], alone.tokens["last"])


def test_a_store_with_views_through_the_command(command: Command, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    command("oct-phantom", "--out", str(bucket), "--participants", "2", "--scale", "0.125", "--seed", "1")
    common = ("extract-embeddings", "--bucket", str(bucket), "--encoder", "random:tiny", "--tokens", "none")
    command(*common, "--store", str(tmp_path / "plain"), "--limit", "4")
    command(*common, "--store", str(tmp_path / "views"), "--limit", "4", "--views", "2")
    plain, views = (open_reader(str(tmp_path / name)) for name in ("plain", "views"))
    assert views.space.view_count == 2
    assert views.space.plain_pools == plain.space.pools
    vectors, alone = views.pooled(range(4)), plain.pooled(range(4))
    np.testing.assert_array_equal(vectors[:, :, :3], alone)
    for view in (1, 2):
        seen = vectors[:, :, 3 * view : 3 * view + 3]
        assert not np.allclose(seen, alone, atol=1e-3)
        assert np.corrcoef(seen.ravel(), alone.ravel())[0, 1] > 0.9, "still the same eye"
    refused = command(*common, "--store", str(tmp_path / "plain"), "--views", "2")
    assert refused.code == 1
    assert "views" in refused.stderr


def test_views_of_another_preset_are_refused(command: Command, tmp_path: Path) -> None:
    done = command(
        "extract-embeddings", "--bucket", str(tmp_path), "--store", str(tmp_path / "s"), "--encoder", "random:tiny",
        "--views", "1", "--preset", "finetune_v0",
    )  # fmt: skip
    assert done.code == 2
    assert "--views 1" in done.stderr
