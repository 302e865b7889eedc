"""Maps through the encoder, on a small random one whose head reads known tokens only."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from extract.encoder.architecture import Architecture
from extract.encoder.transformer import Transformer
from reports.anatomy.regions import Regions
from reports.attribution.encoder_maps import attention_rollout, grad_cam, map_volume, occlusion, region_means

TARGET = 1


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return _tiny()


def _tiny() -> nn.Module:
    torch.manual_seed(0)
    return Transformer(Architecture("vjepa3d", (4, 16, 16), (2, 4, 4), 24, 3, 2, 48)).eval()


def halves() -> Regions:
    """The left and the right half of a grid 2 x 4 x 4, and a region that holds nothing."""
    label = np.zeros((2, 4, 4), np.int64)
    label[:, :, 2:] = 1
    return Regions(("left", "right", "nowhere"), label, "halves", "the scan")


def reader(module: nn.Module, chosen: np.ndarray):
    """Evidence that reads the patch embedding of chosen tokens only, so that the truth is known."""
    mask = torch.from_numpy(chosen.ravel()).float()
    direction = torch.linspace(-1, 1, 24)

    def evidence(volumes: Tensor) -> Tensor:
        tokens = module(volumes)["last"]
        score = ((tokens @ direction) * mask).sum(dim=1)
        return torch.stack([-score, score], dim=1)

    return evidence


def blocks_of(module: nn.Module) -> Sequence[nn.Module]:
    return list(module.blocks)[-2:]


def volume() -> Tensor:
    return torch.randn(1, 1, 4, 16, 16, generator=torch.Generator().manual_seed(1))


def test_cam_is_what_the_formula_says(module: nn.Module) -> None:
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, tokens: Tensor) -> None:
        tokens.retain_grad()
        seen.append(tokens)

    evidence = reader(module, halves().label == 1)
    hook = blocks_of(module)[-1].register_forward_hook(keep)
    evidence(volume())[0, TARGET].backward()
    hook.remove()
    assert seen[0].grad is not None
    weight = seen[0].grad[0].double().mean(dim=0)
    expected = (seen[0][0].detach().double() @ weight).clamp(min=0)
    found = grad_cam(evidence, blocks_of(module)[-1], volume(), TARGET)
    np.testing.assert_allclose(found, (expected / expected.max()).numpy(), atol=1e-6)


def test_occlusion_ranks_the_half_that_is_read(module: nn.Module) -> None:
    regions = halves()
    lost = {
        side: np.abs(occlusion(reader(module, regions.label == side), volume(), regions, TARGET)) for side in (0, 1)
    }
    assert lost[0].argmax() == 0
    assert lost[1].argmax() == 1
    assert lost[0][2] == 0  # nothing lies there


def test_rollout_of_tokens_that_look_everywhere_alike_is_flat(module: nn.Module) -> None:
    even = _tiny()
    for block in even.blocks:
        nn.init.zeros_(block.attn.qkv.weight)
        nn.init.zeros_(block.attn.qkv.bias)
    everything = np.ones((2, 4, 4), dtype=bool)
    rollout = attention_rollout(reader(even, everything), blocks_of(even), volume())
    np.testing.assert_allclose(rollout, 1.0, atol=1e-12)


def test_rollout_equals_the_product_of_whole_matrices(module: nn.Module) -> None:
    matrices: list[Tensor] = []

    def record(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tokens = block.norm1(inputs[0])
        packed = block.attn.qkv(tokens).reshape(1, 32, 3, 2, 12).permute(2, 0, 3, 1, 4)
        query, key = packed[0][0].double(), packed[1][0].double()
        matrices.append((query * 12**-0.5 @ key.transpose(1, 2)).softmax(-1).mean(0))

    hooks = [block.register_forward_pre_hook(record) for block in blocks_of(module)]
    everything = np.ones((2, 4, 4), dtype=bool)
    found = attention_rollout(reader(module, everything), blocks_of(module), volume())
    for hook in hooks:
        hook.remove()
    row = torch.full((32,), 1 / 32, dtype=torch.float64)
    for matrix in reversed(matrices):
        row = row @ (0.5 * torch.eye(32, dtype=torch.float64) + 0.5 * matrix.detach())
    np.testing.assert_allclose(found, (row / row.max()).numpy(), atol=1e-6)


def test_nothing_is_left_behind_in_the_encoder(module: nn.Module) -> None:
    before = [block.attn.attend for block in module.blocks]
    found = map_volume(reader(module, halves().label == 1), blocks_of(module), volume(), halves(), TARGET)
    assert [block.attn.attend for block in module.blocks] == before
    assert all(not block._forward_hooks for block in module.blocks)
    assert found.cam.shape == found.rollout.shape == (2, 4, 4)
    assert set(found.agreement) == {"cam", "rollout"}


def test_region_means_average_what_lies_there() -> None:
    values = np.arange(32, dtype=np.float64).reshape(2, 4, 4)
    means = region_means(values, halves())
    assert means[0] == values[:, :, :2].mean()
    assert means[2] == 0
