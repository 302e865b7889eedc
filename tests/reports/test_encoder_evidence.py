"""A fine-tuned model's explanation of one volume, on a small random encoder whose head reads known tokens only."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from extract.encoder.architecture import Architecture
from extract.encoder.transformer import Transformer
from reports.anatomy.regions import Regions, axial_bands
from reports.attribution import encoder_maps
from reports.attribution.encoder_evidence import EncoderEvidence
from reports.attribution.encoder_maps import score_kept
from reports.attribution.tokens import evidence
from reports.attribution.whole_model import WholeModel, explain_encoder, shuffle_blocks

GRID = (2, 4, 4)
READ = 2


def columns(grid: tuple[int, int, int] = GRID) -> Regions:
    """Four columns of the scan, and a region that holds nothing."""
    label = np.broadcast_to(np.arange(grid[2]), grid).astype(np.int64)
    return Regions(("first", "second", "third", "fourth", "nowhere"), label, "columns", "the scan")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Transformer(Architecture("vjepa3d", (4, 16, 16), GRID, 24, 3, 2, 48)).eval()


def reader(module: nn.Module) -> WholeModel:
    """A model of three classes that reads one column of tokens; the class 1 goes with it."""
    mask = torch.from_numpy((columns().label == READ).ravel()).float()
    direction = torch.linspace(-1, 1, 24)

    def logits(volumes: Tensor) -> Tensor:
        tokens = module(volumes)["last"]
        score = ((tokens @ direction) * mask).sum(dim=1)
        return torch.stack([-score, score, torch.zeros_like(score)], dim=1)

    return WholeModel(logits, list(module.blocks), GRID)


def volume() -> Tensor:
    return torch.randn(1, 1, 4, 16, 16, generator=torch.Generator().manual_seed(1))


def explained(module: nn.Module, target: int = 1) -> EncoderEvidence:
    control = copy.deepcopy(module)
    shuffle_blocks(list(control.blocks), np.random.default_rng(0))
    return explain_encoder(
        reader(module), reader(control), volume(), target=target, en_face=columns, bands=axial_bands, seed=0
    )


def test_the_evidence_is_that_of_a_probe_with_these_logits(module: nn.Module) -> None:
    whole = reader(module)
    with torch.no_grad():
        logits = whole.logits(volume()).double().numpy()
    log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(explained(module).evidence, evidence(log_probability)[0], atol=1e-6)


def test_the_region_that_is_read_moves_the_evidence_most(module: nn.Module) -> None:
    found = explained(module).found
    assert int(np.abs(found.occlusion).argmax()) == READ
    assert found.occlusion[4] == 0  # nothing lies there


def test_its_maps_are_ready_to_be_painted(module: nn.Module) -> None:
    found = explained(module)
    assert [one.name for one in found.maps] == ["grad-cam", "rollout", "occlusion"]
    assert [one.in_evidence for one in found.maps] == [False, False, True]
    assert all(one.values.shape == GRID for one in found.maps)
    np.testing.assert_array_equal(found.maps[2].values[:, :, READ], found.found.occlusion[READ])
    assert found.band_occlusion.shape == (3,)
    assert found.curves.deletion[0] == pytest.approx(found.evidence[1], abs=1e-5)
    assert found.curves.deletion[-1] == pytest.approx(found.curves.insertion[0], abs=1e-5)


def test_the_control_shuffles_a_copy_only(module: nn.Module) -> None:
    before = [weight.clone() for weight in module.parameters()]
    found = explained(module)
    assert all(torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))
    assert found.shuffled is not None
    assert found.shuffled < 0.9
    control = copy.deepcopy(module)
    shuffle_blocks(list(control.blocks)[:1], np.random.default_rng(0))
    own, dealt = (next(block.parameters()) for block in (module.blocks[0].attn.qkv, control.blocks[0].attn.qkv))
    assert not torch.equal(own, dealt)
    assert torch.equal(own.flatten().sort().values, dealt.flatten().sort().values)
    assert torch.equal(next(module.blocks[1].parameters()), next(control.blocks[1].parameters()))


def test_covered_volumes_are_scored_once_each_and_a_few_at_a_time(
    module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, regions = reader(module), columns()
    kept = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=bool)
    label = torch.from_numpy(regions.label).repeat_interleave(2, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)
    direct = []
    for row in kept:
        covered = volume().clone()
        covered[0, 0][~torch.from_numpy(row)[label]] = volume().mean()
        with torch.no_grad():
            direct.append(float(whole.evidence(covered)[0, 1]))
    seen: list[int] = []

    def counting(volumes: Tensor) -> Tensor:
        seen.append(len(volumes))
        return whole.evidence(volumes)

    monkeypatch.setattr(encoder_maps, "VOXELS_AT_ONCE", 2 * volume().numel())
    np.testing.assert_allclose(score_kept(counting, volume(), regions, kept, 1), direct, atol=1e-5)
    assert seen == [2, 1]
