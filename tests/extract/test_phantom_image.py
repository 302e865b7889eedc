"""Speckle statistics, brightness order, shadows, scaling."""

from itertools import pairwise

import numpy as np
import pytest

from embeddings_store.schema import Eye
from extract.phantom.anatomy import Surfaces, build_surfaces, draw_pose, layer_stack_um
from extract.phantom.effect import Thinning
from extract.phantom.eye import draw_eye
from extract.phantom.pattern import scan_pattern
from extract.phantom.render import Appearance, grey_curve, render_volume, scan_grain
from extract.phantom.scan import make_scan, scan_seeds
from extract.phantom.scanners import DEFAULT_PROTOCOLS, PROTOCOLS, SCANNERS, Protocol
from extract.phantom.speckle import Grain, gamma_quantiles, grain_on_grid, speckle
from extract.phantom.thickness import LAYERS


@pytest.mark.parametrize("looks", [1.0, 2.5, 8.0, 40.0])
def test_contrast_is_one_over_the_root_of_looks(looks: float) -> None:
    intensity = speckle((4, 256, 256), Grain(looks, 1.0, 0.7), np.random.default_rng(0))
    assert intensity.mean() == pytest.approx(1, abs=0.02)
    assert intensity.std() == pytest.approx(1 / np.sqrt(looks), rel=0.04)


def test_speckle_is_correlated_over_the_point_spread_only() -> None:
    grain = speckle((4, 256, 256), Grain(8.0, 1.0, 0.7), np.random.default_rng(0)) - 1
    variance = (grain**2).mean()
    axial = [(grain[:, k:] * grain[:, :-k]).mean() / variance for k in (1, 8)]
    lateral = [(grain[:, :, k:] * grain[:, :, :-k]).mean() / variance for k in (1, 8)]
    frames = (grain[1:] * grain[:-1]).mean() / variance
    assert axial[0] == pytest.approx(np.exp(-1 / 4), abs=0.06)  # a Gaussian of 1 px: correlation exp(-lag^2 / 4)
    assert 0.3 < lateral[0] < axial[0]
    assert max(abs(axial[1]), abs(lateral[1]), abs(frames)) < 0.03


def test_one_look_is_exponential() -> None:
    quantiles = gamma_quantiles(1.0)
    assert np.median(quantiles) == pytest.approx(np.log(2), abs=0.002)


def test_a_coarser_grid_averages_more_looks() -> None:
    native = grain_on_grid(2.0, (4.0, 9.0), (2.6, 12.0), (2.6, 12.0))
    coarse = grain_on_grid(2.0, (4.0, 9.0), (26.0, 120.0), (2.6, 12.0))
    assert native.looks == 2
    assert coarse.looks == pytest.approx(2 * 26 / 14.18 * 120 / 31.9, rel=0.01)
    assert coarse.axial_px == pytest.approx(native.axial_px / 10)


def rendered(protocol: Protocol, seed: int = 0) -> tuple[np.ndarray, Surfaces]:
    rng = np.random.default_rng(seed)
    traits = draw_eye(seed, 1001, Eye.RIGHT)
    pose = draw_pose(protocol, rng)
    pattern = scan_pattern(protocol, Eye.RIGHT, pose.offset_mm)
    surfaces = build_surfaces(traits, protocol, pattern, pose, layer_stack_um(traits, pattern, Thinning(), 0))
    return render_volume(surfaces, protocol, traits.choroid_um, Appearance(), rng), surfaces


def layer_means(voxels: np.ndarray, surfaces: Surfaces, protocol: Protocol) -> dict[str, float]:
    """Mean grey in the middle half of each layer, away from vessels and disc, and of the vitreous."""
    row = (np.arange(protocol.rows) + 0.5)[None, :, None] * protocol.axial_mm * 1000
    clear = ((surfaces.vessel < 0.01) & (surfaces.disc == 0))[:, None]
    means = {"vitreous": float(voxels[(row < surfaces.depth_um[0][:, None] - 40) & clear].mean())}
    for name, top, bottom in zip(LAYERS, surfaces.depth_um[:-1], surfaces.depth_um[1:], strict=True):
        quarter = (bottom - top) / 4
        inside = (row > (top + quarter)[:, None]) & (row < (bottom - quarter)[:, None]) & clear
        means[name] = float(voxels[inside].mean())
    return means


@pytest.mark.parametrize("name", DEFAULT_PROTOCOLS)
def test_layers_are_ordered_by_brightness_as_in_real_scans(name: str) -> None:
    full = PROTOCOLS[name]
    protocol = Protocol(name, full.device, full.rows, 160, 4, full.axial_mm, 0.03, 1.2)
    grey = layer_means(*rendered(protocol), protocol)
    order = ["RPE", "EZ", "RNFL", "IPL", "GCL", "INL", "ONL", "vitreous"]
    for brighter, darker in pairwise(order):
        assert grey[brighter] > grey[darker] + 1, (brighter, darker, grey)
    assert grey["OPL"] > grey["INL"]
    assert grey["RPE"] < 250


def test_a_vessel_casts_a_shadow_below_itself() -> None:
    protocol = Protocol("cirrus_mac", "zeiss_cirrus", 512, 256, 16, 0.0039, 0.0234, 0.35)
    voxels, surfaces = rendered(protocol)
    row = (np.arange(protocol.rows) + 0.5)[None, :, None] * protocol.axial_mm * 1000
    band = (row > surfaces.depth_um[8][:, None]) & (row < surfaces.depth_um[11][:, None])
    shaded, clear = surfaces.vessel > 0.6, surfaces.vessel == 0
    assert shaded.sum() > 20
    assert voxels[band & shaded[:, None]].mean() < voxels[band & clear[:, None]].mean() - 10


def test_spectralis_speckle_is_that_of_public_b_scans() -> None:
    """Tian et al. 2015: in homogeneous layers the grey's deviation is 10 to 22 % of its mean."""
    protocol = Protocol("spectralis_ppol_mac_hr", "heidelberg_spectralis", 496, 256, 4, 0.00387, 0.012, 0.12)
    voxels, surfaces = rendered(protocol)
    row = (np.arange(protocol.rows) + 0.5)[None, :, None] * protocol.axial_mm * 1000
    top, bottom = surfaces.depth_um[2:4]
    inside = (row > (top + 8)[:, None]) & (row < (bottom - 8)[:, None]) & (surfaces.vessel < 0.01)[:, None]
    assert 0.10 < voxels[inside].std() / voxels[inside].mean() < 0.22


@pytest.mark.parametrize("name", PROTOCOLS)
def test_scaling_keeps_the_field_of_view(name: str) -> None:
    full, small = PROTOCOLS[name], PROTOCOLS[name].scaled(0.1)
    assert min(small.rows, small.columns) >= 32
    assert small.frames >= 4
    assert small.rows * small.axial_mm == pytest.approx(full.rows * full.axial_mm)
    assert small.columns * small.lateral_mm == pytest.approx(full.columns * full.lateral_mm)
    assert small.frames * small.frame_mm == pytest.approx(full.frames * full.frame_mm)
    assert scan_grain(small).looks > SCANNERS[full.device].looks


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_renders_something_at_a_small_scale(name: str) -> None:
    protocol = PROTOCOLS[name].scaled(0.05)
    traits = draw_eye(0, 1001, Eye.LEFT)
    seeds = scan_seeds(0, 1001, name, Eye.LEFT)
    scan = make_scan(traits, protocol, seeds, thinning=Thinning(), class_index=0, look=Appearance())
    assert scan.voxels.shape == (protocol.frames, protocol.rows, protocol.columns)
    assert (scan.voxels.std(axis=(1, 2)) > 10).all()


def test_no_hard_edges_between_chunks_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = PROTOCOLS["cirrus_mac"].scaled(0.05)
    whole = rendered(protocol)[0]
    monkeypatch.setattr("extract.phantom.render.CHUNK_VOXELS", 1)
    parts = rendered(protocol)[0]
    assert abs(float(whole.mean()) - float(parts.mean())) < 0.5


def test_the_grey_curve_rises_and_never_wraps() -> None:
    curve = grey_curve(1.2, 1.1).astype(int)
    assert (np.diff(curve) >= 0).all()
    assert curve[0] == 0
    assert 240 < curve[-1] <= 255
