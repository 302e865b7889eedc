"""Thickness, surfaces, mirror symmetry, and the effect at its known place."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings_store.schema import Eye
from extract.phantom.anatomy import build_surfaces, draw_pose, layer_stack_um
from extract.phantom.effect import QUADRANTS, SECTORS, Thinning, sector_weight
from extract.phantom.eye import draw_eye
from extract.phantom.pattern import scan_pattern
from extract.phantom.scanners import PROTOCOLS
from extract.phantom.thickness import LAYERS, layer_thickness_um

MACULA = PROTOCOLS["cirrus_mac"].scaled(0.1)
NONE = Thinning()

PUBLISHED_UM = {  # BMC Ophthalmol 2018;18:169, table 6, typed anew: fovea, pericentral, peripheral
    "RNFL": (11, 21, 36),
    "GCL": (12, 50, 37),
    "IPL": (18, 41, 31),
    "INL": (15, 39, 33),
    "OPL": (23, 33, 27),
    "ONL": (88, 68, 55),
    "PRL+RPE": (90, 83, 80),
}

POLAR = np.meshgrid(np.arange(0.0025, 3, 0.005), np.arange(0, 2 * np.pi, np.pi / 36), indexing="ij")
RADIUS, ANGLE = POLAR
DISK = layer_thickness_um(RADIUS * np.cos(ANGLE), RADIUS * np.sin(ANGLE))
REGIONS = {"fovea": (0, 0.5), "pericentral": (0.5, 1.5), "peripheral": (1.5, 3.0)}


def region_mean(values: np.ndarray, region: str) -> float:
    low, high = REGIONS[region]
    inside = (low <= RADIUS) & (high > RADIUS)
    return float(np.average(values[inside], weights=RADIUS[inside]))


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("layer", PUBLISHED_UM)
def test_the_mean_of_each_layer_over_each_region_is_the_published_one(layer: str, region: str) -> None:
    values = DISK[6:].sum(axis=0) if layer == "PRL+RPE" else DISK[LAYERS.index(layer)]
    expected = PUBLISHED_UM[layer][list(REGIONS).index(region)]
    assert region_mean(values, region) == pytest.approx(expected, abs=0.05)


def test_the_total_dips_at_the_fovea_and_changes_smoothly() -> None:
    across = np.linspace(-3, 3, 1201)
    total = layer_thickness_um(across, np.zeros_like(across)).sum(axis=0)
    assert total[600] < 235
    assert abs(across[400 + int(np.argmin(total[400:801]))]) < 0.1
    assert total.max() > 320
    assert np.abs(np.diff(total)).max() < 1.5  # um in 5 um: no step


def test_nerve_fibres_are_thicker_on_the_side_of_the_disc() -> None:
    nasal, temporal = (layer_thickness_um(np.array([x]), np.array([0.0]))[0, 0] for x in (2.5, -2.5))
    assert nasal > 1.8 * temporal


@pytest.mark.parametrize("name", ["cirrus_mac", "cirrus_disc", "spectralis_onh_rc_hr", "maestro2_3d_wide"])
def test_a_left_eye_is_the_mirror_image_of_the_same_right_eye(name: str) -> None:
    protocol = PROTOCOLS[name].scaled(0.1)
    traits = draw_eye(1, 1001, Eye.RIGHT)
    pose = draw_pose(protocol, np.random.default_rng(0))
    depths = []
    for eye in (Eye.RIGHT, Eye.LEFT):
        pattern = scan_pattern(protocol, eye, pose.offset_mm)
        twin = replace(traits, eye=eye)
        depths.append(build_surfaces(twin, protocol, pattern, pose, layer_stack_um(twin, pattern, NONE, 0)).depth_um)
    right, left = depths
    if protocol.radial:  # the lines turn the other way round, so that only the first, horizontal one is a mirror image
        right, left = right[:, :1], left[:, :1]
    np.testing.assert_allclose(left, right[:, :, ::-1], atol=1e-9)
    assert not np.allclose(left, right)


def test_surfaces_are_ordered_and_their_gaps_are_the_layers() -> None:
    traits = draw_eye(3, 4002, Eye.LEFT)
    pose = draw_pose(MACULA, np.random.default_rng(1))
    pattern = scan_pattern(MACULA, Eye.LEFT, pose.offset_mm)
    stack = layer_stack_um(traits, pattern, NONE, 0)
    surfaces = build_surfaces(traits, MACULA, pattern, pose, stack)
    gaps = np.diff(surfaces.depth_um, axis=0)
    assert gaps.min() >= -1e-9
    np.testing.assert_allclose(gaps, stack, atol=1e-9)
    assert surfaces.depth_um.min() > 0


def test_jitter_between_frames_is_5_to_20_um() -> None:
    protocol = PROTOCOLS["maestro2_3d_macula"]
    spread = [draw_pose(protocol, np.random.default_rng(seed)).jitter_um.std() for seed in range(40)]
    assert min(spread) > 4
    assert max(spread) < 24


def test_the_two_eyes_of_a_person_are_alike_and_people_differ() -> None:
    factors = np.array([[draw_eye(0, n, eye).layer_factor for eye in (Eye.LEFT, Eye.RIGHT)] for n in range(1001, 1031)])
    left, right = factors[:, 0].ravel(), factors[:, 1].ravel()
    assert np.corrcoef(left, right)[0, 1] > 0.8
    assert 0.03 < left.std() < 0.07


def test_without_the_option_the_class_changes_nothing() -> None:
    traits = draw_eye(0, 1001, Eye.RIGHT)
    pattern = scan_pattern(MACULA, Eye.RIGHT)
    stacks = [layer_stack_um(traits, pattern, NONE, group) for group in range(4)]
    for stack in stacks[1:]:
        np.testing.assert_array_equal(stack, stacks[0])


@given(step_um=st.floats(0.5, 6), group=st.integers(1, 3), sector=st.sampled_from([None, *SECTORS]))
def test_the_effect_thins_gcl_and_rnfl_by_the_right_um_and_nothing_else(
    step_um: float, group: int, sector: str | None
) -> None:
    traits = draw_eye(0, 1001, Eye.RIGHT)
    pattern = scan_pattern(MACULA, Eye.RIGHT)
    weight = sector_weight(sector, pattern.nasal_mm, pattern.superior_mm)
    before = layer_stack_um(traits, pattern, NONE, group)
    after = layer_stack_um(traits, pattern, Thinning(step_um, sector), group)
    np.testing.assert_array_equal(after[2:], before[2:])
    lost = (before[:2] - after[:2]).sum(axis=0)
    thick_enough = 0.75 * before[:2].sum(axis=0) > step_um * group
    np.testing.assert_allclose(lost[thick_enough], (step_um * group * weight)[thick_enough], atol=1e-9)
    assert lost[weight == 0].max(initial=0) == 0
    assert (after[:2] >= 0.2 * before[:2]).all()


def test_the_nine_sectors_cover_the_macula_once_each() -> None:
    x, y = np.meshgrid(np.linspace(-3.2, 3.2, 321), np.linspace(-3.2, 3.2, 321))
    weights = np.stack([sector_weight(sector, x, y) for sector in SECTORS])
    assert weights.sum(axis=0).max() <= 1 + 1e-9
    assert (weights.max(axis=(1, 2)) == 1).all()
    assert weights[:, np.hypot(x, y) > 3].max() == 0


@pytest.mark.parametrize("side", QUADRANTS)
def test_sectors_point_where_their_names_say(side: str) -> None:
    angle = np.radians(QUADRANTS[side])
    place = np.array([2.2 * np.cos(angle)]), np.array([2.2 * np.sin(angle)])
    assert sector_weight(f"outer-{side}", *place)[0] == 1
    assert sector_weight(f"inner-{side}", *place)[0] == 0
