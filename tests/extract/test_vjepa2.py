"""The arithmetic of the public V-JEPA 2 encoder, layer by layer, against the fixture vjepa2_hf."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from embeddings_store.errors import UsageError
from extract.device.cpu import CpuBackend
from extract.encode import BatchEncoder, build_space
from extract.encoder.architecture import Architecture
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_twin
from extract.encoder.rotary import RotaryPositions, video_angles

LAYERS = ("1", "2", "last")


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "vjepa2_hf"


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_checkpoint(folder)


@pytest.fixture(scope="module")
def clips(folder: Path) -> torch.Tensor:
    """Give the fixture's frames-first colour clips as [B, 3, D, H, W]."""
    return torch.from_numpy(np.load(folder / "input.npy")).transpose(1, 2).contiguous()


@pytest.fixture(scope="module")
def volumes() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(8).normal(size=(2, 1, 6, 32, 32)).astype(np.float32))


def deviation(folder: Path, found: torch.Tensor, name: str) -> float:
    return float(np.abs(found.numpy() - np.load(folder / f"expected_{name}.npy")).max())


def test_patch_embedding(encoder: Encoder, folder: Path, clips: torch.Tensor) -> None:
    assert deviation(folder, encoder.module.patch_embed(clips), "hidden_0") <= 2e-5


def test_every_layer_and_the_final_norm(encoder: Encoder, folder: Path, clips: torch.Tensor) -> None:
    found = encoder.module(clips, LAYERS)
    assert deviation(folder, found["1"], "hidden_1") <= 2e-5
    assert deviation(folder, found["2"], "hidden_2") <= 2e-5
    assert deviation(folder, found["last"], "last_hidden_state") <= 2e-5
    assert deviation(folder, found["last"].mean(1), "pooled_mean") <= 2e-5


def test_float64(encoder: Encoder, folder: Path, clips: torch.Tensor) -> None:
    exact = deepcopy(encoder.module).double()
    assert deviation(folder, exact(clips.double())["last"], "last_hidden_state_float64") <= 5e-6


@pytest.mark.parametrize("layers", [("1",), ("last",), ("2", "1"), ("2", "last")])
def test_a_subset_of_layers_equals_the_full_pass(
    encoder: Encoder, clips: torch.Tensor, layers: tuple[str, ...]
) -> None:
    full, some = encoder.module(clips, LAYERS), encoder.module(clips, layers)
    assert tuple(some) == layers
    assert all(torch.equal(some[name], full[name]) for name in layers)


def test_grey_volumes_are_repeated_to_three_channels(encoder: Encoder, volumes: torch.Tensor) -> None:
    grey, colour = encoder.module(volumes)["last"], encoder.module(volumes.repeat(1, 3, 1, 1, 1))["last"]
    assert torch.equal(grey, colour)


def test_slices_are_frames(encoder: Encoder, volumes: torch.Tensor) -> None:
    """A change in the last two slices is seen by the last tubelet's patches only."""
    changed = volumes.clone()
    changed[:, :, 4:] += 1
    patches = [encoder.module.patch_embed(each.expand(-1, 3, -1, -1, -1)) for each in (volumes, changed)]
    differs = (patches[0] != patches[1]).any(-1).any(0)
    assert differs.reshape(3, 16).any(1).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 6, 64, 32), "expected volumes of 6x32x32, got 6x64x32"),
        ((1, 2, 6, 32, 32), r"expected 1 \(grey\) or 3 channels, got 2"),
    ],
)
def test_other_inputs_are_refused(encoder: Encoder, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encoder.module(torch.zeros(shape))


def test_bf16_pooled_vectors_point_the_same_way(encoder: Encoder, folder: Path, clips: torch.Tensor) -> None:
    wishes = {"layers": LAYERS, "pools": ("mean", "max", "std"), "batch_size": 2}
    grey = clips[:, :1].numpy()
    fp32, bf16 = (BatchEncoder(encoder, CpuBackend(kind), **wishes).encode(grey).pooled for kind in ("fp32", "bf16"))
    assert not np.array_equal(fp32, bf16)
    cosine = (fp32 * bf16).sum(-1) / np.linalg.norm(fp32, axis=-1) / np.linalg.norm(bf16, axis=-1)
    assert cosine.min() >= 0.999


class TestRotaryPositions:
    """Turning queries and keys by their place."""

    def test_the_first_token_is_not_turned_and_leftover_dimensions_never(self) -> None:
        vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 24, 16)).astype(np.float32))
        turned = RotaryPositions("rotary", (2, 3, 4), 16)(vectors)
        assert torch.equal(turned[:, :, 0], vectors[:, :, 0])
        assert torch.equal(turned[..., 12:], vectors[..., 12:])
        assert not torch.equal(turned[:, :, 1:, :12], vectors[:, :, 1:, :12])

    @pytest.mark.parametrize("head_dim", [6, 16, 17, 64, 80])
    def test_a_third_of_the_dimensions_belongs_to_each_axis(self, head_dim: int) -> None:
        part = 2 * (head_dim // 3 // 2)
        angles = video_angles("rotary", (2, 3, 4), head_dim).reshape(2, 3, 4, 3, part)
        assert angles.shape[-2:] == (3, part)
        for axis, size in enumerate((2, 3, 4)):
            along = np.moveaxis(angles[..., axis, :], axis, 0)
            assert (along == along[:, :1, :1]).all(), "the same everywhere else"
            np.testing.assert_allclose(along[:, 0, 0, 0], np.arange(size))

    def test_frequencies_are_written_twice_one_after_the_other(self) -> None:
        time = video_angles("rotary", (2, 1, 1), 64)[1, :20]
        np.testing.assert_allclose(time[:10], 10_000.0 ** -(np.arange(10) / 10))
        np.testing.assert_array_equal(time[:10], time[10:])

    def test_where_the_volume_shows_something_matters(self) -> None:
        """Without positions, an encoder of patches would not tell a volume from its mirror image."""
        architecture = Architecture("vjepa2", (4, 32, 32), (2, 8, 8), width=48, depth=2, heads=3, mlp_width=96)
        module = random_twin(architecture, seed=1, source="test").module
        # Loud weights, so that attention is far from uniform.
        for name, weights in module.state_dict().items():
            if "qkv.weight" in name:
                weights[:96].mul_(30)
        volume = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 1, 4, 32, 32)).astype(np.float32))
        rows = [8 * (at // 8) for at in range(32)]
        swapped = volume[:, :, :, [24 - row + at % 8 for at, row in enumerate(rows)]]
        assert (module(volume)["last"].mean(1) - module(swapped)["last"].mean(1)).abs().max() > 1e-3


def test_the_state_dict_is_what_the_architecture_says(encoder: Encoder) -> None:
    state = {name: tuple(tensor.shape) for name, tensor in encoder.module.state_dict().items()}
    assert state == encoder.architecture.tensor_shapes
    assert encoder.architecture.parameter_count == 75_120
    assert sum(p.numel() for p in encoder.module.parameters()) == 75_120


def test_the_published_large_encoder_has_the_stated_size() -> None:
    """ViT-L of facebook/vjepa2-vitl-fpc64-256: about 0.3 billion parameters, 32 x 16 x 16 tokens."""
    large = Architecture("vjepa2", (64, 256, 256), (2, 16, 16), 1024, 24, 16, 4096)
    assert large.token_count == 8192
    assert 0.30e9 < large.parameter_count < 0.31e9


def test_a_random_twin_of_the_family(encoder: Encoder, volumes: torch.Tensor) -> None:
    twin = random_twin(encoder.architecture, seed=0, source="twin")
    assert twin.weights_sha256 != encoder.weights_sha256
    assert twin.module(volumes)["last"].shape == (2, 48, 48)


def test_the_space_names_the_family(encoder: Encoder) -> None:
    space = build_space(
        encoder, {"name": "pretrain"}, layers=("last",), pools=("mean",), token_grid=(3, 4, 4), precision="fp32"
    )
    assert (space.family, space.image_size, space.patch, space.heads) == ("vjepa2", (6, 32, 32), (2, 8, 8), 3)
