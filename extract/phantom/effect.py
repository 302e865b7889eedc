"""The positive control: thinner ganglion cells and nerve fibres, a known number of um a class step, at a known place.

There is no effect unless somebody asks for one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from extract.phantom.thickness import LAYERS, RING_EDGES_MM

QUADRANTS = {"nasal": 0.0, "superior": 90.0, "temporal": 180.0, "inferior": 270.0}

SECTORS = ("centre", *(f"{ring}-{side}" for ring in ("inner", "outer") for side in QUADRANTS))
"""The nine ETDRS sectors: a centre of 0.5 mm radius, an inner ring to 1.5 mm, an outer ring to 3 mm."""

EDGE_MM = 0.1
LARGEST_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Thinning:
    """Micrometres of GCL + RNFL lost a class step, over the macula (3 mm around the fovea) or in one sector."""

    step_um: float = 0.0
    sector: str | None = None

    def apply(
        self,
        thickness_um: Float64[np.ndarray, "11 *shape"],
        class_index: int,
        nasal_mm: Float64[np.ndarray, "*shape"],
        superior_mm: Float64[np.ndarray, "*shape"],
    ) -> Float64[np.ndarray, "11 *shape"]:
        """Thin RNFL and GCL in proportion to what is there; nothing else moves.

        Their sum loses step_um x class_index, or three quarters of itself where it is thinner than that needs.
        """
        if self.step_um == 0 or class_index == 0:
            return thickness_um
        pair = [LAYERS.index("RNFL"), LAYERS.index("GCL")]
        together = thickness_um[pair].sum(axis=0)
        wanted = self.step_um * class_index * sector_weight(self.sector, nasal_mm, superior_mm)
        lost = np.minimum(wanted, LARGEST_SHARE * together)
        thinned = thickness_um.copy()
        thinned[pair] *= 1 - lost / np.maximum(together, 1e-9)
        return thinned


def sector_weight(
    sector: str | None, nasal_mm: Float64[np.ndarray, "*shape"], superior_mm: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Weigh places by one ETDRS sector (None: the whole macula): 1 inside, 0 outside, a ramp of 0.1 mm at the edge."""
    radius_mm = np.hypot(nasal_mm, superior_mm)
    if sector is None:
        return _ramp(RING_EDGES_MM[3] - radius_mm)
    if sector == "centre":
        return _ramp(RING_EDGES_MM[1] - radius_mm)
    ring, side = sector.split("-")
    low, high = {"inner": RING_EDGES_MM[1:3], "outer": RING_EDGES_MM[2:4]}[ring]
    angle = np.degrees(np.arctan2(superior_mm, nasal_mm)) - QUADRANTS[side]
    off_axis = np.abs((angle + 180) % 360 - 180)
    to_diagonal_mm = radius_mm * np.sin(np.radians(np.clip(45 - off_axis, -90, 90)))
    weight: Float64[np.ndarray, "*shape"] = _ramp(radius_mm - low) * _ramp(high - radius_mm) * _ramp(to_diagonal_mm)
    return weight


def _ramp(inside_mm: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """Rise from 0 at the edge to 1 at EDGE_MM inside it."""
    return np.clip(inside_mm / EDGE_MM, 0.0, 1.0)
