"""How thick each retinal layer is, at any place of the posterior pole.

Source: BMC Ophthalmol 2018;18:169, table 6: mean thickness in the ETDRS centre (0 to 0.5 mm), the pericentral ring
(0.5 to 1.5 mm) and the peripheral ring (1.5 to 3 mm). Between them each layer is a smooth profile, a level plus a
Gaussian foveal pit plus a wide Gaussian slope, whose mean over each of the three regions is the table's value exactly.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

RING_EDGES_MM = (0.0, 0.5, 1.5, 3.0)

REGION_MEANS_UM = {
    "RNFL": (11.0, 21.0, 36.0),
    "GCL": (12.0, 50.0, 37.0),
    "IPL": (18.0, 41.0, 31.0),
    "INL": (15.0, 39.0, 33.0),
    "OPL": (23.0, 33.0, 27.0),
    "ONL": (88.0, 68.0, 55.0),
    "PRL+RPE": (90.0, 83.0, 80.0),
}

LAYERS = ("RNFL", "GCL", "IPL", "INL", "OPL", "ONL", "ELM", "MYOID", "EZ", "OS", "RPE")

OUTER_BANDS = {"ELM": 0.09, "MYOID": 0.17, "EZ": 0.19, "OS": 0.17, "RPE": 0.38}
"""Parts of PRL+RPE, from the inside out; they sum to 1. Estimated from public B-scans: no paper gives all five."""

PIT_WIDTH_MM = {"GCL": 0.56}
"""Widths of the pit other than 0.45 mm: the ganglion cells are missing from a wider place than the rest."""

SLOPE_WIDTH_MM = 1.5


def layer_thickness_um(
    nasal_mm: Float64[np.ndarray, "*shape"], superior_mm: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "11 *shape"]:
    """Give the thickness of each of LAYERS at places around the fovea, in the eye's own coordinates.

    The nerve-fibre layer is thicker on the side of the disc and along the arcades, thinner temporally; around any
    circle it averages to the table's profile (shape of the asymmetry: Hood & Kardon 2007, in words, not in numbers).
    """
    radius_mm = np.hypot(nasal_mm, superior_mm)
    means = {name: _profile_um(name, radius_mm) for name in REGION_MEANS_UM}
    means["RNFL"] = means["RNFL"] * _bundle_asymmetry(nasal_mm, superior_mm)
    inner = [means[name] for name in LAYERS[:6]]
    outer = [means["PRL+RPE"] * share for share in OUTER_BANDS.values()]
    return np.stack(inner + outer)


def _profile_um(name: str, radius_mm: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    level, pit, slope = _coefficients(name)
    width = PIT_WIDTH_MM.get(name, 0.45)
    squared = np.minimum(radius_mm, 4.5) ** 2
    slope_shape = np.exp(-squared / (2 * SLOPE_WIDTH_MM**2))
    thickness = level + pit * np.exp(-squared / (2 * width**2)) + slope * slope_shape
    bounded: Float64[np.ndarray, "*shape"] = np.maximum(thickness, 0.0)
    return bounded


@cache
def _coefficients(name: str) -> tuple[float, float, float]:
    width = PIT_WIDTH_MM.get(name, 0.45)
    regions = list(pairwise(RING_EDGES_MM))
    design = [[1.0, _gaussian_mean(width, *ring), _gaussian_mean(SLOPE_WIDTH_MM, *ring)] for ring in regions]
    level, pit, slope = np.linalg.solve(np.array(design), np.array(REGION_MEANS_UM[name]))
    return float(level), float(pit), float(slope)


def _gaussian_mean(width_mm: float, low_mm: float, high_mm: float) -> float:
    """Average exp(-r^2 / 2 width^2) over the area between two radii."""
    twice = 2 * width_mm**2
    area = high_mm**2 - low_mm**2
    return float(twice / area * (np.exp(-(low_mm**2) / twice) - np.exp(-(high_mm**2) / twice)))


def _bundle_asymmetry(
    nasal_mm: Float64[np.ndarray, "*shape"], superior_mm: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """A factor that averages to 1 around the fovea: nasal above temporal, arcades above the raphe."""
    radius_mm = np.hypot(nasal_mm, superior_mm)
    angle = np.arctan2(superior_mm, nasal_mm)
    strength = np.clip(radius_mm / 1.5, 0.0, 1.0)
    factor: Float64[np.ndarray, "*shape"] = 1 + strength * (0.40 * np.cos(angle) - 0.18 * np.cos(2 * angle))
    return factor
