"""What a fine-tuned model read in one volume: its maps, their reference, and whether they tell what was read."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from reports.anatomy.regions import Regions
from reports.attribution.faithfulness import Curves
from reports.attribution.heat_map import HeatMap

LAST_BLOCKS = 3
RANDOM_ORDERS = 5
"""Each costs the encoder about 18 volumes; a probe's shares, which cost none, are held against ten times as many."""


@dataclass(frozen=True)
class EncoderMaps:
    """Three maps of one volume. cam, rollout [gd, gh, gw]: not negative, the largest is 1; occlusion [regions].

    by_region: the mean of each shortcut over each region. agreement: rank correlation of that with occlusion, over
    regions that hold a token; None where a map is flat.
    """

    cam: Float64[np.ndarray, "gd gh gw"]
    rollout: Float64[np.ndarray, "gd gh gw"]
    occlusion: Float64[np.ndarray, " regions"]
    by_region: dict[str, Float64[np.ndarray, " regions"]]
    agreement: dict[str, float | None]


@dataclass(frozen=True)
class EncoderEvidence:
    """The explanation of one volume by a fine-tuned model. target: the class that is explained.

    maps: over tokens, and occlusion by en-face region. band_occlusion: by thirds of the depth. curves: deletion and
    insertion of regions in the order of their mean Grad-CAM. shuffled: rank correlation over tokens of the Grad-CAM
    with that of the model whose last blocks were shuffled; near 1 would mean that it does not depend on what was
    learned.
    """

    target: int
    evidence: Float64[np.ndarray, " k"]
    en_face: Regions
    bands: Regions
    found: EncoderMaps
    band_occlusion: Float64[np.ndarray, " bands"]
    curves: Curves
    shuffled: float | None

    @property
    def maps(self) -> tuple[HeatMap, ...]:
        """Give Grad-CAM, rollout, and the occlusion of each region painted over its tokens."""
        occluded = np.asarray(self.found.occlusion[self.en_face.label])
        return (
            HeatMap("grad-cam", "Grad-CAM", self.found.cam, in_evidence=False),
            HeatMap("rollout", "attention rollout", self.found.rollout, in_evidence=False),
            HeatMap("occlusion", "occlusion", occluded),
        )
