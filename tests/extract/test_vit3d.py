"""The encoder's arithmetic, block by block, against the fixture vjepa3d_tiny."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from embeddings_store.errors import UsageError
from extract.encoder.architecture import Architecture
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder

TINY = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "vjepa3d_tiny"
LAYERS = ("1", "2", "3", "last")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    if not TINY.is_dir():
        pytest.skip("the shared fixture vjepa3d_tiny is not here")
    return load_checkpoint(TINY / "checkpoint.pt")


@pytest.fixture(scope="module")
def volumes() -> torch.Tensor:
    return torch.from_numpy(np.load(TINY / "input.npy"))


def expected(name: str) -> torch.Tensor:
    return torch.from_numpy(np.load(TINY / f"expected_{name}.npy"))


def max_abs(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max())


def test_patch_embedding_and_positions(encoder: Encoder, volumes: torch.Tensor) -> None:
    patches = encoder.module.patch_embed(volumes)
    assert max_abs(patches, expected("patch_embed")) <= 2e-5
    assert max_abs(patches + encoder.module.pos_embed, expected("embed_plus_pos")) <= 2e-5


def test_every_block_and_the_final_norm(encoder: Encoder, volumes: torch.Tensor) -> None:
    found = encoder.module(volumes, LAYERS)
    for block in range(3):
        assert max_abs(found[str(block + 1)], expected(f"block_{block}")) <= 2e-5, f"block {block + 1}"
    assert max_abs(found["last"], expected("tokens")) <= 2e-5


def test_float64_tells_the_epsilon_and_the_gelu_apart(encoder: Encoder, volumes: torch.Tensor) -> None:
    exact = deepcopy(encoder.module).double()
    assert max_abs(exact(volumes.double())["last"], expected("tokens_float64")) <= 1e-9


@pytest.mark.parametrize("layers", [("1",), ("last",), ("3", "1"), ("2", "last")])
def test_a_subset_of_layers_equals_the_full_pass(
    encoder: Encoder, volumes: torch.Tensor, layers: tuple[str, ...]
) -> None:
    full, some = encoder.module(volumes, LAYERS), encoder.module(volumes, layers)
    assert tuple(some) == layers
    assert all(torch.equal(some[name], full[name]) for name in layers)


def test_blocks_beyond_the_deepest_layer_are_not_run(encoder: Encoder, volumes: torch.Tensor) -> None:
    module, ran = deepcopy(encoder.module), []
    for number, block in enumerate(module.blocks, start=1):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    module(volumes, ("2",))
    assert ran == [1, 2]


@pytest.mark.parametrize("layers", [("0",), ("4",), ("first",), (), ("last", "last"), ("01",)])
def test_unknown_or_double_layers_are_refused(encoder: Encoder, volumes: torch.Tensor, layers: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="layer"):
        encoder.module(volumes, layers)


def test_a_volume_of_another_size_is_refused(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match=r"expected volumes of 16x64x64, got 64x16x64"):
        encoder.module(torch.zeros(1, 1, 64, 16, 64))


def test_the_default_architecture_has_the_stated_parameters() -> None:
    base = Architecture("vjepa3d", (64, 384, 384), (4, 16, 16), 768, 12, 12, 3072)
    assert (base.grid, base.token_count) == ((16, 24, 24), 9216)
    assert len(base.tensor_shapes) == 149
    assert base.parameter_count == 92_921_088


def test_the_state_dict_has_the_names_and_shapes_of_the_trainer(encoder: Encoder) -> None:
    state = {name: tuple(tensor.shape) for name, tensor in encoder.module.state_dict().items()}
    assert state == encoder.architecture.tensor_shapes
    assert sum(p.numel() for p in encoder.module.parameters()) == encoder.architecture.parameter_count == 137_184


@pytest.mark.parametrize(
    ("image_size", "heads", "message"),
    [
        ((18, 64, 64), 4, "multiples of the patch"),
        ((16, 64, 64), 5, "divides the width 48"),
        ((0, 64, 64), 4, "at least 1"),
    ],
)
def test_impossible_architectures_are_refused(image_size: tuple[int, int, int], heads: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Architecture("vjepa3d", image_size, (4, 16, 16), 48, 3, heads, 192)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(UsageError, match="encoder family 'vjepa4': expected one of vjepa3d, vjepa1, vjepa2"):
        Architecture("vjepa4", (16, 64, 64), (4, 16, 16), 48, 3, 4, 192)
