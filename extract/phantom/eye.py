"""One made-up eye: how its layers, disc, choroid and vessels differ from the mean.

Both eyes of a participant share most of their variation. Nothing here knows age, site or label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import BSpline, make_interp_spline

from embeddings_store.schema import Eye
from extract.phantom.thickness import LAYERS

DISC_CENTRE_MM = (4.5, 0.4)
"""Nasal and superior of the fovea: about 4.5 mm away, a little above (textbook anatomy)."""

SHARED_SPREAD = 0.045
OWN_SPREAD = 0.015
VESSEL_STEP_MM = 0.03
FOVEAL_AVASCULAR_MM = 0.45


@dataclass(frozen=True, slots=True, eq=False)
class EyeTraits:
    """Factors on the layer table, disc, choroid, curvature; vessels as points (nasal mm, superior mm, radius mm)."""

    eye: Eye
    layer_factor: Float64[np.ndarray, "11"]
    disc_radius_mm: float
    cup_ratio: float
    cup_depth_um: float
    choroid_um: float
    curvature_radius_mm: float
    vessels: Float64[np.ndarray, "points 3"]


@lru_cache(maxsize=4)
def draw_eye(seed: int, participant: int, eye: Eye) -> EyeTraits:
    """Draw an eye; the same seed, participant and eye give the same traits in any process."""
    shared = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(participant, 0)))
    side = {Eye.RIGHT: 1, Eye.LEFT: 2}[eye]
    own = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(participant, side)))
    factor = 1 + SHARED_SPREAD * _bounded(shared, len(LAYERS)) + OWN_SPREAD * _bounded(own, len(LAYERS))
    both = _bounded(shared, 5) + 0.3 * _bounded(own, 5)
    return EyeTraits(
        eye=eye,
        layer_factor=factor,
        disc_radius_mm=0.88 + 0.05 * both[0],
        cup_ratio=0.45 + 0.07 * both[1],
        cup_depth_um=320 + 60 * both[2],
        choroid_um=260 + 40 * both[3],
        curvature_radius_mm=70 + 10 * both[4],
        vessels=_draw_vessels(own),
    )


def _bounded(rng: np.random.Generator, n: int) -> Float64[np.ndarray, " n"]:
    """Draw standard normals, cut at 2.2 so that no layer vanishes."""
    return np.clip(rng.standard_normal(n), -2.2, 2.2)


@dataclass(frozen=True, slots=True)
class _Course:
    """Where a vessel runs, and its radius at both ends."""

    knots: Float64[np.ndarray, "knots 2"]
    first_mm: float
    last_mm: float


def _draw_vessels(rng: np.random.Generator) -> Float64[np.ndarray, "points 3"]:
    trunks = _curves([_trunk(rng, side, radius_mm) for side in (1, -1) for radius_mm in (0.050, 0.062)])
    nasal = _curves([_nasal_trunk(rng, side, 0.045) for side in (1, -1)])
    twigs = _curves([_twig(rng, trunks[int(rng.integers(len(trunks)))]) for _ in range(40)])
    points = np.concatenate(trunks + nasal + twigs)
    outside: Float64[np.ndarray, "kept 3"] = points[np.hypot(points[:, 0], points[:, 1]) > FOVEAL_AVASCULAR_MM]
    return outside


def _trunk(rng: np.random.Generator, side: int, radius_mm: float) -> _Course:
    """Run a temporal arcade from the disc around the macula."""
    knots = np.array([DISC_CENTRE_MM, (3.9, side * 1.7), (1.6, side * 3.0), (-1.6, side * 3.2), (-6.5, side * 2.4)])
    knots[1:] += rng.normal(0, 0.22, (4, 2))
    return _Course(knots, radius_mm, 0.5 * radius_mm)


def _nasal_trunk(rng: np.random.Generator, side: int, radius_mm: float) -> _Course:
    knots = np.array([DISC_CENTRE_MM, (5.3, side * 1.1), (6.6, side * 2.2), (9.0, side * 3.0)])
    knots[1:] += rng.normal(0, 0.15, (3, 2))
    return _Course(knots, radius_mm, 0.6 * radius_mm)


def _twig(rng: np.random.Generator, trunk: Float64[np.ndarray, "points 3"]) -> _Course:
    """Branch off a trunk, mostly towards the fovea, sometimes away from it."""
    start = trunk[int(rng.integers(len(trunk) // 8, len(trunk)))]
    inward = rng.random() < 0.7
    reach = rng.uniform(0.15, 0.5) if inward else rng.uniform(1.3, 1.8)
    end = start[:2] * reach + rng.normal(0, 0.5, 2)
    middle = (start[:2] + end) / 2 + rng.normal(0, 0.3, 2)
    return _Course(np.array([start[:2], middle, end]), rng.uniform(0.016, 0.032), 0.010)


def _curves(courses: Sequence[_Course]) -> list[Float64[np.ndarray, "points 3"]]:
    """Draw courses of equally many knots; their splines are solved together, as one by one takes twice as long."""
    knots = np.stack([course.knots for course in courses], axis=1)
    order = min(3, len(knots) - 1)
    splines = make_interp_spline(np.linspace(0, 1, len(knots)), knots, k=order)
    found = []
    for place, course in enumerate(courses):
        length_mm = float(np.hypot(*np.diff(course.knots, axis=0).T).sum())
        along = np.linspace(0, 1, max(4, int(length_mm / VESSEL_STEP_MM)))
        spline = BSpline.construct_fast(splines.t, np.ascontiguousarray(splines.c[:, place]), order)
        found.append(np.column_stack([spline(along), np.linspace(course.first_mm, course.last_mm, len(along))]))
    return found
