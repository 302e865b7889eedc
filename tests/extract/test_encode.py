"""A batch through the encoder: what a row gets, and what must not change it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embeddings_store.errors import UsageError
from embeddings_store.space import EmbeddingSpace
from extract.device.cpu import CpuBackend
from extract.encode import BatchEncoder, build_space
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder

TINY = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "vjepa3d_tiny"
LAYERS, POOLS = ("2", "last"), ("mean", "max", "std")


class RecordingCpu(CpuBackend):
    """A CPU that remembers the batch sizes it was given, and may want static shapes, as XLA does."""

    def __init__(self, static_shapes: bool) -> None:
        super().__init__("fp32")
        self.static_shapes = static_shapes
        self.seen: list[int] = []

    def place(self, batch: np.ndarray) -> torch.Tensor:
        self.seen.append(len(batch))
        return super().place(batch)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return random_encoder("random:tiny", (16, 64, 64))


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(3, 1, 16, 64, 64)).astype(np.float32)


def tiny() -> Encoder:
    if not TINY.is_dir():
        pytest.skip("the shared fixture vjepa3d_tiny is not here")
    return load_checkpoint(TINY / "checkpoint.pt")


def test_pooled_vectors_are_those_of_the_fixture() -> None:
    volumes = np.load(TINY / "input.npy") if TINY.is_dir() else None
    encoded = BatchEncoder(tiny(), CpuBackend("fp32"), pools=("mean", "max"), batch_size=2).encode(volumes)
    assert encoded.tokens == {}
    assert not encoded.failures
    for index, name in enumerate(("mean", "max")):
        expected = np.load(TINY / f"expected_pooled_{name}.npy")
        np.testing.assert_allclose(encoded.pooled[:, 0, index], expected, atol=2e-5)


def test_tokens_for_a_person_are_those_of_the_fixture() -> None:
    found = BatchEncoder(tiny(), CpuBackend("fp32"), layers=("1",), batch_size=2).tokens(np.load(TINY / "input.npy"))
    np.testing.assert_allclose(found, np.load(TINY / "expected_tokens.npy"), atol=2e-5)


def test_every_layer_and_pool_has_its_place(encoder: Encoder, batch: np.ndarray) -> None:
    whole = BatchEncoder(encoder, CpuBackend("fp32"), layers=LAYERS, pools=POOLS, token_grid=(4, 4, 4), batch_size=3)
    encoded = whole.encode(batch)
    assert encoded.pooled.shape == (3, 2, 3, 192)
    for at, layer in enumerate(LAYERS):
        with torch.no_grad():
            tokens = encoder.module(torch.from_numpy(batch), (layer,))[layer].numpy()
        np.testing.assert_array_equal(encoded.tokens[layer].reshape(tokens.shape), tokens.astype(np.float16))
        np.testing.assert_allclose(encoded.pooled[:, at, 2], tokens.std(1), rtol=1e-4)


def test_a_smaller_grid_is_averaged_before_it_is_rounded(encoder: Encoder, batch: np.ndarray) -> None:
    encoded = BatchEncoder(encoder, CpuBackend("fp32"), token_grid=(2, 2, 2), batch_size=3).encode(batch)
    assert encoded.tokens["last"].shape == (3, 2, 2, 2, 192)
    assert encoded.tokens["last"].dtype == np.float16
    means = encoded.tokens["last"].astype(np.float64).mean((1, 2, 3))
    np.testing.assert_allclose(means, encoded.pooled[:, 0, 0], atol=2e-3)


def test_padding_a_short_batch_changes_nothing(encoder: Encoder, batch: np.ndarray) -> None:
    device = RecordingCpu(static_shapes=True)
    padded = BatchEncoder(encoder, device, pools=POOLS, token_grid=(4, 4, 4), batch_size=3)
    whole, short = padded.encode(batch), padded.encode(batch[:2])
    assert device.seen == [3, 3]
    assert len(short.pooled) == len(short.tokens["last"]) == 2
    np.testing.assert_array_equal(short.pooled, whole.pooled[:2])
    np.testing.assert_array_equal(short.tokens["last"], whole.tokens["last"][:2])
    assert padded.tokens(batch[:1]).shape == (1, 64, 192)


def test_a_batch_that_is_not_padded_where_shapes_are_free(encoder: Encoder, batch: np.ndarray) -> None:
    device = RecordingCpu(static_shapes=False)
    free = BatchEncoder(encoder, device, batch_size=3)
    np.testing.assert_allclose(free.encode(batch[:1]).pooled, free.encode(batch).pooled[:1], atol=2e-6)
    assert device.seen == [1, 3]


@pytest.mark.parametrize("name", ["fixture", "random"])
def test_bf16_pooled_vectors_point_the_same_way(name: str, encoder: Encoder, batch: np.ndarray) -> None:
    model, volumes = (tiny(), np.load(TINY / "input.npy")) if name == "fixture" else (encoder, batch)
    fp32, bf16 = (
        BatchEncoder(model, CpuBackend(precision), layers=LAYERS, pools=POOLS, batch_size=3).encode(volumes).pooled
        for precision in ("fp32", "bf16")
    )
    assert fp32.dtype == bf16.dtype == np.float32
    assert not np.array_equal(fp32, bf16)
    cosine = (fp32 * bf16).sum(-1) / np.linalg.norm(fp32, axis=-1) / np.linalg.norm(bf16, axis=-1)
    assert cosine.min() >= 0.999


def test_only_the_volume_that_overflows_float16_fails(encoder: Encoder, batch: np.ndarray) -> None:
    loud = batch * np.array([1, 1e7, 1], np.float32).reshape(3, 1, 1, 1, 1)
    encoded = BatchEncoder(encoder, CpuBackend("fp32"), layers=("1",), token_grid=(4, 4, 4), batch_size=3).encode(loud)
    assert encoded.failures.keys() == {1}
    assert "tokens of layer 1 exceed float16" in str(encoded.failures[1])
    assert np.isfinite(encoded.tokens["1"][[0, 2]]).all()


def test_only_the_volume_with_nan_fails(encoder: Encoder, batch: np.ndarray) -> None:
    broken = batch.copy()
    broken[1, 0, 3, 3, 3] = np.nan
    encoded = BatchEncoder(encoder, CpuBackend("fp32"), batch_size=3).encode(broken)
    assert encoded.failures.keys() == {1}
    assert "not finite" in str(encoded.failures[1])
    assert np.isfinite(encoded.pooled[[0, 2]]).all()


def test_the_encoder_that_is_passed_in_stays_float32(encoder: Encoder, batch: np.ndarray) -> None:
    BatchEncoder(encoder, CpuBackend("bf16"), batch_size=3).encode(batch)
    assert {p.dtype for p in encoder.module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ("9",)}, "layer '9'"),
        ({"pools": ("sum",)}, "pool 'sum'"),
        ({"token_grid": (3, 4, 4)}, "token grid 3x4x4"),
    ],
)
def test_wrong_wishes_are_refused_at_the_start(encoder: Encoder, options: dict[str, tuple[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BatchEncoder(encoder, CpuBackend("fp32"), **options)


def test_a_batch_of_none_or_too_many_is_refused(encoder: Encoder, batch: np.ndarray) -> None:
    single = BatchEncoder(encoder, CpuBackend("fp32"))
    for wrong in (batch, batch[:0]):
        with pytest.raises(UsageError, match="expected 1 to 1 volumes"):
            single.encode(wrong)


def test_the_space_holds_everything_that_changes_the_numbers(encoder: Encoder) -> None:
    def space(which: Encoder, **changes: object) -> EmbeddingSpace:
        wishes = {"layers": ("last",), "pools": ("mean",), "token_grid": None, "precision": "fp32"}
        return build_space(which, {"name": "pretrain"}, **(wishes | changes))

    spaces = [
        space(encoder),
        space(encoder, layers=("2", "last")),
        space(encoder, pools=("max",)),
        space(encoder, token_grid=(2, 2, 2)),
        space(encoder, precision="bf16"),
        space(random_encoder("random:tiny,seed=1", (16, 64, 64))),
    ]
    assert len({each.id for each in spaces}) == len(spaces)
    renamed = replace(encoder, source="another name", facts={"epoch": 3})
    assert space(renamed).id == space(encoder).id
