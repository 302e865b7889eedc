"""Maps of a fine-tuned model, for which the encoder has to run again: Grad-CAM, attention rollout, occlusion.

Grad-CAM (Selvaraju et al., 2017) and rollout (Abnar & Zuidema, 2020) are shortcuts through the network; occlusion asks
the model itself, region by region, and is the reference that the other two are compared with.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from extract.encoder.attention import SelfAttention, fused_attention
from reports.anatomy.regions import Regions
from reports.attribution.encoder_evidence import EncoderMaps
from reports.attribution.faithfulness import map_agreement

ROWS_AT_ONCE = 256
VOXELS_AT_ONCE = 8_000_000

Evidence = Callable[[Float[Tensor, "b 1 D H W"]], Float[Tensor, "b k"]]
"""The whole model: from preprocessed volumes to the evidence for each class."""


def map_volume(
    evidence: Evidence,
    blocks: Sequence[nn.Module],
    volume: Float[Tensor, "1 1 D H W"],
    regions: Regions,
    target: int,
) -> EncoderMaps:
    """Make all three maps of one preprocessed volume for one class. blocks: the last ones, in their order."""
    grid = regions.label.shape
    cam = grad_cam(evidence, blocks[-1], volume, target).reshape(grid)
    rollout = attention_rollout(evidence, blocks, volume).reshape(grid)
    occluded = occlusion(evidence, volume, regions, target)
    held = np.array([name not in regions.empty for name in regions.names])
    by_region = {name: region_means(values, regions) for name, values in (("cam", cam), ("rollout", rollout))}
    agreement = {name: map_agreement(values[held], occluded[held]) for name, values in by_region.items()}
    return EncoderMaps(cam, rollout, occluded, by_region, agreement)


def grad_cam(
    evidence: Evidence, block: nn.Module, volume: Float[Tensor, "1 1 D H W"], target: int
) -> Float64[np.ndarray, " N"]:
    """Weigh the channels of a block's tokens by their mean gradient, and keep what raises the evidence."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, tokens: Tensor) -> Tensor:
        tokens = tokens.detach().requires_grad_()
        kept.append(tokens)
        return tokens

    hook = block.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            said = evidence(volume)[0, target]
            (gradient,) = torch.autograd.grad(said, kept[-1])
    finally:
        hook.remove()
    tokens = kept[-1].detach()[0].double()
    weight = gradient[0].double().mean(dim=0)
    return _to_unit((tokens @ weight).clamp(min=0).cpu().numpy())


def attention_rollout(
    evidence: Evidence, blocks: Sequence[nn.Module], volume: Float[Tensor, "1 1 D H W"]
) -> Float64[np.ndarray, " N"]:
    """Follow where the mean of the last tokens was looked for, back through blocks; half of each token is itself.

    The score matrices are never held: a row vector goes through them a few rows at a time.
    """
    with _recorded(blocks) as seen, torch.inference_mode():
        evidence(volume)
    count = seen[-1][0].shape[-2]
    looked = torch.full((count,), 1 / count, dtype=torch.float64)
    for query, key in reversed(seen):
        looked = 0.5 * looked + 0.5 * _through(looked, query[0].double(), key[0].double())
    return _to_unit(looked.numpy())


def occlusion(
    evidence: Evidence, volume: Float[Tensor, "1 1 D H W"], regions: Regions, target: int
) -> Float64[np.ndarray, " regions"]:
    """Give what the evidence loses when a region's voxels are set to the mean of the volume; 0 for empty regions."""
    held = np.flatnonzero([name not in regions.empty for name in regions.names])
    kept = np.ones((1 + len(held), len(regions.names)), dtype=bool)
    kept[1 + np.arange(len(held)), held] = False
    whole, *without = score_kept(evidence, volume, regions, kept, target)
    lost = np.zeros(len(regions.names))
    lost[held] = whole - np.array(without)
    return lost


def score_kept(
    evidence: Evidence,
    volume: Float[Tensor, "1 1 D H W"],
    regions: Regions,
    kept: Bool[np.ndarray, "m regions"],
    target: int,
) -> Float64[np.ndarray, " m"]:
    """Give the evidence for a class of m volumes in which the regions that are not kept hold the volume's mean."""
    size = volume.shape[2:]
    label, mean = _label_of_voxels(regions.label, (size[0], size[1], size[2])).to(volume.device), volume.mean()
    sets, place = np.unique(kept, axis=0, return_inverse=True)
    step = max(1, VOXELS_AT_ONCE // volume.numel())
    found = []
    with torch.inference_mode():
        for start in range(0, len(sets), step):
            here = torch.from_numpy(sets[start : start + step]).to(volume.device)[:, label]
            said = evidence(torch.where(here[:, None], volume, mean))
            found.append(said[:, target].double().cpu().numpy())
    return np.asarray(np.concatenate(found)[place.ravel()])


def region_means(values: Float64[np.ndarray, "gd gh gw"], regions: Regions) -> Float64[np.ndarray, " regions"]:
    """Average a map over each region; 0 for empty ones."""
    label, names = regions.label.ravel(), len(regions.names)
    return np.bincount(label, values.ravel(), names) / np.maximum(np.bincount(label, minlength=names), 1)


@contextmanager
def _recorded(blocks: Sequence[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Keep query and key of each block's attention while the model runs."""
    seen: list[tuple[Tensor, Tensor]] = []

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen.append((query.detach().cpu(), key.detach().cpu()))
        return fused_attention(query, key, value)

    layers = [part for block in blocks for part in block.modules() if isinstance(part, SelfAttention)]
    before = [layer.attend for layer in layers]
    for layer in layers:
        layer.attend = attend
    try:
        yield seen
    finally:
        for layer, attention in zip(layers, before, strict=True):
            layer.attend = attention


def _through(
    looked: Float[Tensor, " N"], query: Float[Tensor, "heads N d"], key: Float[Tensor, "heads N d"]
) -> Float[Tensor, " N"]:
    """Multiply a row vector with the mean attention of the heads."""
    found = torch.zeros_like(looked)
    scaled = query * query.shape[-1] ** -0.5
    for start in range(0, len(looked), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        attention = (scaled[:, rows] @ key.transpose(1, 2)).softmax(dim=-1).mean(dim=0)
        found += looked[rows] @ attention
    return found


def _label_of_voxels(of_tokens: Int64[np.ndarray, "gd gh gw"], size: tuple[int, int, int]) -> Int64[Tensor, "D H W"]:
    label = torch.from_numpy(of_tokens)
    for axis, (tokens, voxels) in enumerate(zip(of_tokens.shape, size, strict=True)):
        label = label.repeat_interleave(voxels // tokens, dim=axis)
    return label


def _to_unit(values: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    largest = float(values.max())
    return values / largest if largest > 0 else values
