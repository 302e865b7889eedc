"""Asks a fine-tuned model, encoder and head together, what it read in one volume."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reports.anatomy.regions import Regions
from reports.attribution.encoder_evidence import LAST_BLOCKS, RANDOM_ORDERS, EncoderEvidence, EncoderMaps
from reports.attribution.encoder_maps import Evidence, grad_cam, map_volume, occlusion, score_kept
from reports.attribution.faithfulness import Curves, faithfulness_curves, map_agreement
from reports.attribution.volume import RegionsOf


@dataclass(frozen=True)
class WholeModel:
    """A fine-tuned model, as far as an explanation asks it. logits: of preprocessed volumes; blocks: first to last."""

    logits: Callable[[Float[Tensor, "b 1 D H W"]], Float[Tensor, "b k"]]
    blocks: Sequence[nn.Module]
    grid: tuple[int, int, int]

    def evidence(self, volumes: Float[Tensor, "b 1 D H W"]) -> Float[Tensor, "b k"]:
        """Give the log-odds of each class against the geometric mean of the others (attribution.tokens.evidence)."""
        logits = self.logits(volumes)
        classes = logits.shape[1]
        return (logits - logits.mean(dim=1, keepdim=True)) * (classes / (classes - 1))

    @property
    def last_blocks(self) -> Sequence[nn.Module]:
        """Give the blocks through which maps are followed."""
        return self.blocks[-LAST_BLOCKS:]


def shuffle_blocks(blocks: Sequence[nn.Module], rng: np.random.Generator) -> None:
    """Deal the entries of each weight of the last blocks anew, in place: what they learned is gone."""
    with torch.no_grad():
        for weight in (weight for block in blocks[-LAST_BLOCKS:] for weight in block.parameters()):
            order = torch.from_numpy(rng.permutation(weight.numel())).to(weight.device)
            weight.copy_(weight.flatten()[order].reshape(weight.shape))


def explain_encoder(
    model: WholeModel,
    control: WholeModel,
    volume: Float[Tensor, "1 1 D H W"],
    *,
    target: int,
    en_face: RegionsOf,
    bands: RegionsOf,
    seed: int,
) -> EncoderEvidence:
    """Explain the evidence for one class on one preprocessed volume. control: the model with shuffled blocks."""
    regions, depths = en_face(model.grid), bands(model.grid)
    found = map_volume(model.evidence, model.last_blocks, volume, regions, target)
    other = grad_cam(control.evidence, control.last_blocks[-1], volume, target)
    with torch.inference_mode():
        said = model.evidence(volume)[0].double().cpu().numpy()
    return EncoderEvidence(
        target,
        said,
        regions,
        depths,
        found,
        occlusion(model.evidence, volume, depths, target),
        _curves(model.evidence, volume, regions, found, target, seed),
        map_agreement(found.cam, other.reshape(found.cam.shape)),
    )


def _curves(
    evidence: Evidence,
    volume: Float[Tensor, "1 1 D H W"],
    regions: Regions,
    found: EncoderMaps,
    target: int,
    seed: int,
) -> Curves:
    held = np.array([name not in regions.empty for name in regions.names])

    def score(kept: np.ndarray) -> np.ndarray:
        whole = np.ones((len(kept), len(held)), dtype=bool)
        whole[:, held] = kept
        return score_kept(evidence, volume, regions, whole, target)

    return faithfulness_curves(
        found.by_region["cam"][held], score, rng=np.random.default_rng(seed), orders=RANDOM_ORDERS
    )
