"""Surfaces of one scan of one eye: where each layer begins and ends, before anything is drawn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from extract.phantom.effect import Thinning
from extract.phantom.eye import DISC_CENTRE_MM, EyeTraits
from extract.phantom.pattern import ScanPattern
from extract.phantom.scanners import Protocol
from extract.phantom.thickness import layer_thickness_um

HIGHEST_SURFACE_UM = 90.0


@dataclass(frozen=True, slots=True, eq=False)
class ScanPose:
    """How the eye sat in front of the scanner: fixation, tilt, depth and the jitter of every frame."""

    offset_mm: tuple[float, float]
    tilt_um_per_mm: tuple[float, float]
    depth_share: float
    jitter_um: Float64[np.ndarray, " frames"]


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """Depths of the 12 surfaces from the inner limiting membrane to Bruch's membrane, below the top of the image.

    vessel: 0 to 1, how much of a retinal vessel lies at an A-scan. disc: 0 to 1, the optic disc.
    """

    depth_um: Float64[np.ndarray, "12 frames columns"]
    vessel: Float64[np.ndarray, "frames columns"]
    disc: Float64[np.ndarray, "frames columns"]


def draw_pose(protocol: Protocol, rng: np.random.Generator) -> ScanPose:
    """Draw one acquisition; the jitter has 5 to 20 um standard deviation, half of its variance slow."""
    slow = gaussian_filter1d(rng.standard_normal(protocol.frames + 24), 4)[12:-12]
    slow = slow / max(float(slow.std()), 1e-9)
    jitter_um = rng.uniform(5, 20) * (slow + rng.standard_normal(protocol.frames)) / np.sqrt(2)
    offset = np.clip(rng.normal(0, 0.06, 2), -0.15, 0.15)
    tilt = np.clip(rng.normal(0, 14, 2), -35, 35)
    share = {"fovea": 0.55, "between": 0.60, "disc": 0.48}[protocol.centre] + rng.uniform(-0.03, 0.03)
    return ScanPose((float(offset[0]), float(offset[1])), (float(tilt[0]), float(tilt[1])), share, jitter_um)


def layer_stack_um(
    traits: EyeTraits, pattern: ScanPattern, thinning: Thinning, class_index: int
) -> Float64[np.ndarray, "11 frames columns"]:
    """Give the thickness of each of LAYERS under every A-scan of this eye: table, person, effect, then the disc."""
    factor = traits.layer_factor[:, None, None]
    thickness = factor * layer_thickness_um(pattern.nasal_mm, pattern.superior_mm)
    thickness = thinning.apply(thickness, class_index, pattern.nasal_mm, pattern.superior_mm)
    return _around_disc(traits, thickness, pattern)


def build_surfaces(
    traits: EyeTraits, protocol: Protocol, pattern: ScanPattern, pose: ScanPose, stack_um: Float64[np.ndarray, "11 f c"]
) -> Surfaces:
    """Stack the layers on Bruch's membrane, which is curved, tilted and jittered; sink the disc into it."""
    disc = disc_weight(traits, pattern)
    bruch = _bruch_um(traits, protocol, pattern, pose) - disc * _disc_floor_um(traits, pattern, stack_um[0])
    below = np.cumsum(stack_um[::-1], axis=0)[::-1]
    depth = np.concatenate([bruch - below, bruch[None]])
    depth += max(0.0, HIGHEST_SURFACE_UM - float(depth[0].min()))
    return Surfaces(depth, vessel_coverage(traits, protocol, pattern), disc)


def disc_weight(traits: EyeTraits, pattern: ScanPattern) -> Float64[np.ndarray, "frames columns"]:
    """Give 1 inside the optic disc, 0 outside, with a rim of 0.2 mm."""
    return _smoothstep((traits.disc_radius_mm + 0.1 - _from_disc_mm(pattern)) / 0.2)


def vessel_coverage(
    traits: EyeTraits, protocol: Protocol, pattern: ScanPattern
) -> Float64[np.ndarray, "frames columns"]:
    """Tell how much of a vessel lies under each A-scan; a vessel narrower than the pixel covers a part of it."""
    places = np.stack([pattern.nasal_mm.ravel(), pattern.superior_mm.ravel()], axis=1)
    away_mm, nearest = cKDTree(traits.vessels[:, :2]).query(places, distance_upper_bound=0.3)
    found = np.isfinite(away_mm)
    radius_mm = np.where(found, traits.vessels[np.where(found, nearest, 0), 2], 1.0)
    seen_mm = np.maximum(radius_mm, protocol.lateral_mm / 2)
    profile = np.sqrt(np.clip(1 - (np.where(found, away_mm, 1.0) / seen_mm) ** 2, 0, 1))
    strength = np.clip(radius_mm / 0.05, 0.6, 1.0) * radius_mm / seen_mm
    return np.where(found, profile * strength, 0.0).reshape(pattern.nasal_mm.shape)


def _bruch_um(
    traits: EyeTraits, protocol: Protocol, pattern: ScanPattern, pose: ScanPose
) -> Float64[np.ndarray, "f c"]:
    """Place Bruch's membrane: deepest at the fovea, rising to the edges with the curvature of the eye."""
    fundus = pose.depth_share * protocol.rows * protocol.axial_mm * 1000
    sag = (pattern.nasal_mm**2 + pattern.superior_mm**2) / (2 * traits.curvature_radius_mm) * 1000
    tilt = pose.tilt_um_per_mm[0] * pattern.nasal_mm + pose.tilt_um_per_mm[1] * pattern.superior_mm
    depth: Float64[np.ndarray, "f c"] = fundus - sag + tilt + pose.jitter_um[:, None]
    return depth


def _around_disc(
    traits: EyeTraits, thickness: Float64[np.ndarray, "11 f c"], pattern: ScanPattern
) -> Float64[np.ndarray, "11 f c"]:
    """Thicken the nerve fibres towards the disc, more above and below; end every other layer at its margin."""
    away_mm = np.maximum(_from_disc_mm(pattern), 0.7)
    angle = np.arctan2(pattern.superior_mm - DISC_CENTRE_MM[1], pattern.nasal_mm - DISC_CENTRE_MM[0])
    fibres = 95 * (1.7 / away_mm) * (1 - 0.35 * np.cos(2 * angle)) * traits.layer_factor[0]
    outside_macula = _smoothstep((np.hypot(pattern.nasal_mm, pattern.superior_mm) - 3.0) / 0.7)
    near = outside_macula * _smoothstep((3.2 - away_mm) / 2.0)
    inside = disc_weight(traits, pattern)
    result: Float64[np.ndarray, "11 f c"] = thickness * (1 - inside)
    rim = inside * thickness[1:].sum(axis=0) * 0.9
    result[0] = (thickness[0] * (1 - near) + fibres * near + rim) * (1 - 0.8 * _cup_weight(traits, pattern))
    return result


def _disc_floor_um(
    traits: EyeTraits, pattern: ScanPattern, fibres_um: Float64[np.ndarray, "f c"]
) -> Float64[np.ndarray, "f c"]:
    """Give the height, above the plane of Bruch's membrane, of the bottom of the nerve fibres inside the disc."""
    floor: Float64[np.ndarray, "f c"] = -(fibres_um + traits.cup_depth_um) * _cup_weight(traits, pattern)
    return floor


def _cup_weight(traits: EyeTraits, pattern: ScanPattern) -> Float64[np.ndarray, "f c"]:
    return _smoothstep((traits.cup_ratio * traits.disc_radius_mm + 0.3 - _from_disc_mm(pattern)) / 0.6)


def _from_disc_mm(pattern: ScanPattern) -> Float64[np.ndarray, "f c"]:
    return np.hypot(pattern.nasal_mm - DISC_CENTRE_MM[0], pattern.superior_mm - DISC_CENTRE_MM[1])


def _smoothstep(x: Float64[np.ndarray, "f c"]) -> Float64[np.ndarray, "f c"]:
    x = np.clip(x, 0.0, 1.0)
    smooth: Float64[np.ndarray, "f c"] = x * x * (3 - 2 * x)
    return smooth
