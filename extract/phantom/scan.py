"""One scan of one eye, from a seed to voxels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from embeddings_store.schema import Eye
from extract.phantom.anatomy import build_surfaces, draw_pose, layer_stack_um
from extract.phantom.effect import Thinning
from extract.phantom.eye import EyeTraits
from extract.phantom.pattern import scan_pattern
from extract.phantom.render import Appearance, render_volume
from extract.phantom.scanners import PROTOCOLS, Protocol

BRIGHTNESS_SPREAD_DB = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Voxels and geometry of a finished scan; lateral_mm holds one value a frame."""

    voxels: UInt8[np.ndarray, "frames rows columns"]
    protocol: Protocol
    eye: Eye
    lateral_mm: tuple[float, ...]


def make_scan(
    traits: EyeTraits,
    protocol: Protocol,
    seeds: np.random.SeedSequence,
    *,
    thinning: Thinning,
    class_index: int,
    look: Appearance,
) -> Scan:
    """Acquire one eye once; class_index matters only where thinning asks for it."""
    rng = np.random.default_rng(seeds)
    pose = draw_pose(protocol, rng)
    pattern = scan_pattern(protocol, traits.eye, pose.offset_mm)
    stack = layer_stack_um(traits, pattern, thinning, class_index)
    surfaces = build_surfaces(traits, protocol, pattern, pose, stack)
    quality_db = BRIGHTNESS_SPREAD_DB * float(np.clip(rng.standard_normal(), -2, 2))
    shown = Appearance(look.brightness_db + quality_db, look.contrast)
    voxels = render_volume(surfaces, protocol, traits.choroid_um, shown, rng)
    return Scan(voxels, protocol, traits.eye, tuple(pattern.lateral_mm.tolist()))


def scan_seeds(seed: int, participant: int, protocol_name: str, eye: Eye, repeat: int = 0) -> np.random.SeedSequence:
    """Name the random numbers of one scan, so that they depend on nothing else that is generated."""
    number = list(PROTOCOLS).index(protocol_name)
    side = {Eye.RIGHT: 1, Eye.LEFT: 2}[eye]
    return np.random.SeedSequence(seed, spawn_key=(participant, 10 + number, side, repeat))
