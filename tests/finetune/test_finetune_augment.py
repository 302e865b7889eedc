"""Augmentation: nothing at strength 0, labels preserved, the right speckle, the same whatever the worker."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from finetune_study import IMAGE_SIZE, rows_of, write_volumes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.stats import gamma, kstest
from scipy.stats import norm as normal_distribution
from torch.utils._python_dispatch import TorchDispatchMode

from embeddings_store.errors import RunError
from embeddings_store.schema import Eye
from extract.augment.change import change_batch, change_volume
from extract.augment.draws import Changes, Draws, draw_changes
from extract.augment.geometry import NOWHERE, Movement, place_of, resample
from extract.augment.light import NEPER, Light, log_speckle, lose_frames, z_score
from extract.augment.noise import normal_pair
from extract.device.cpu import CpuBackend
from extract.phantom.anatomy import build_surfaces, draw_pose, layer_stack_um
from extract.phantom.effect import Thinning
from extract.phantom.eye import draw_eye
from extract.phantom.pattern import scan_pattern
from extract.phantom.scanners import PROTOCOLS
from finetune.data import dataset as reading
from finetune.data.augment.augmenter import Augmenter
from finetune.data.augment.mixing import UNMIXED, cutmix, mix, mixup
from finetune.data.augment.montage import NOTHING, draw_montage, montage_panels
from finetune.data.dataset import VolumeDataset, read_batches
from finetune.data.feeds import VolumeFeed
from finetune.data.images import ImageCache
from finetune.data.raw import RawVolumes, make_volumes
from finetune.data.sampling import Draw
from finetune.recipe.config import AugmentConfig

RNG = np.random.default_rng(0)
VOLUME = z_score(torch.from_numpy(np.cumsum(RNG.normal(size=(1, 8, 32, 24)), axis=2).astype(np.float32))).numpy()
SIZE = (8, 32, 24)
LOWERED = {
    "add", "amax", "amin", "arange", "bitwise_and", "bitwise_or", "bitwise_xor", "cat", "clamp", "clamp_max",
    "clone", "copy", "cos", "detach", "div", "empty_like", "exp", "expand", "flatten", "floor", "gather", "ge", "gt",
    "index_select", "kthvalue", "lerp", "log", "lt", "mean", "minimum", "mul", "neg", "ones_like", "pow", "reshape",
    "__rshift__", "rsub", "select", "sin", "slice", "sqrt", "sub", "sum", "unbind", "unsqueeze", "view", "where",
    "_to_copy", "_unsafe_view", "alias", "lift_fresh", "empty", "permute", "as_strided", "bitwise_right_shift",
}  # fmt: skip
"""Operators that torch_xla 2.9 lowers (codegen/xla_native_functions.yaml), or that become such ones."""
EVERYTHING = AugmentConfig(mixup=0.4, cutmix=0.4, mixing=1.0)


def layers_of(eye: Eye, scale: float = 0.12) -> tuple[np.ndarray, np.ndarray]:
    """How deep each voxel lies among the layers of a phantom eye, 0 (vitreous) to 11; and its optic disc en face."""
    protocol = PROTOCOLS["maestro2_3d_wide"].scaled(scale)
    traits, rng = draw_eye(3, 1, eye), np.random.default_rng(1)
    pose = replace(draw_pose(protocol, rng), jitter_um=np.zeros(protocol.frames))
    pattern = scan_pattern(protocol, eye, pose.offset_mm)
    surfaces = build_surfaces(traits, protocol, pattern, pose, layer_stack_um(traits, pattern, Thinning(), 0))
    rows_um = (np.arange(protocol.rows) + 0.5) * protocol.axial_mm * 1000
    depth = surfaces.depth_um[:, :, None, :]
    share = np.clip((rows_um[None, :, None] - depth[:-1]) / np.maximum(depth[1:] - depth[:-1], 1e-6), 0, 1)
    return share.sum(axis=0).astype(np.float32)[None], surfaces.disc


def moved(volume: np.ndarray, movement: Movement, *, mirrored: bool = False) -> np.ndarray:
    frames, rows, columns = volume.shape[1:]
    place = torch.from_numpy(place_of((frames, rows, columns), movement, mirrored=mirrored))[None]
    return resample(torch.from_numpy(volume), place, 0, frames).numpy()


def lit(volume: np.ndarray, light: tuple[float, float, float], shadows: np.ndarray | None = None) -> np.ndarray:
    """The volume with gamma, speckle and noise, and shadows [3, n]."""
    there = torch.from_numpy(volume)
    dark = torch.from_numpy(np.zeros((3, 0), np.float32) if shadows is None else shadows)[None]
    seed = torch.tensor([[1, 2, 3]], dtype=torch.int32)
    return Light(there, torch.tensor([light]), dark).change(there, 0, seed).numpy()


def draws_of(changes: Changes, seed: int, size: tuple[int, int, int] = SIZE) -> Draws:
    drawn, _ = draw_changes(size, Eye.LEFT, changes, 1.0, np.random.default_rng(seed))
    return Draws(*(torch.from_numpy(part)[None] for part in drawn))


def test_one_pass_is_the_mirror_the_rotation_and_the_axial_shift_one_after_another() -> None:
    """Against SciPy, with each step's map written out."""
    angles, scales, shifts = (0.3, -0.2), (1.1, 0.9, 1.05), (0.5, -1.5, 2.0)
    movement = Movement(np.array(angles), np.array(scales), np.array(shifts), 2.5, np.array([1.0, -3.0]))
    f, r, c = np.meshgrid(*map(np.arange, SIZE), indexing="ij")
    r = np.clip(r - (2.5 + 1.0 * (f / 7 - 0.5) - 3.0 * (c / 23 - 0.5)), 0, 31)
    u, v, w = ((x - (n - 1) / 2) / n / s for x, n, s in zip((f, r, c), SIZE, scales, strict=True))
    u, w = np.cos(angles[1]) * u + np.sin(angles[1]) * w, np.cos(angles[1]) * w - np.sin(angles[1]) * u
    v, w = np.cos(angles[0]) * v - np.sin(angles[0]) * w, np.sin(angles[0]) * v + np.cos(angles[0]) * w
    source = [x * n - shift + (n - 1) / 2 for x, n, shift in zip((u, v, w), SIZE, shifts, strict=True)]
    expected = map_coordinates(VOLUME[0, :, :, ::-1].astype(np.float64), source, order=1, mode="nearest")
    found = moved(VOLUME, movement, mirrored=True)[0]
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 1, 9), (3, 9, 1)])
def test_a_side_of_one_voxel_is_no_trouble(size: tuple[int, int, int]) -> None:
    volume = RNG.normal(size=(1, *size)).astype(np.float32)
    changed, _ = change_volume(volume, Eye.LEFT, Changes(), 1.0, np.random.default_rng(1))
    assert np.isfinite(changed).all()
    np.testing.assert_array_equal(moved(volume, NOWHERE), volume)


def test_a_constant_volume_stays_finite() -> None:
    changed, _ = change_volume(np.zeros((1, *SIZE), np.float32), Eye.LEFT, Changes(), 1.0, np.random.default_rng(0))
    assert np.isfinite(changed).all()


def test_a_batch_is_its_volumes_one_by_one_up_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device: other parts at a time, and voxels picked in another way."""
    volumes = torch.from_numpy(RNG.normal(size=(3, *SIZE)).astype(np.float32))
    draws = [draws_of(Changes(), seed) for seed in range(3)]
    alone = torch.cat([change_batch(volumes[n : n + 1], one) for n, one in enumerate(draws)])
    batch = Draws(*(torch.cat(parts) for parts in zip(*draws, strict=True)))
    for most in (1, 3 * 3 * 32 * 24, 10**9):
        monkeypatch.setattr("extract.augment.change.VOXELS_AT_ONCE", {"cpu": most})
        torch.testing.assert_close(change_batch(volumes, batch), alone, atol=2e-5, rtol=0)


def test_a_device_is_asked_only_for_what_torch_xla_lowers() -> None:
    """Else each such operator would be computed on the host, in every step."""
    asked: set[str] = set()

    class Listening(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.__name__.split(".")[0]
            asked.add(name if name.startswith("__") else name.removesuffix("_"))
            return func(*args, **(kwargs or {}))

    draws = Draws(*(torch.stack([part, part]).expand(2, 2, *part.shape[1:]) for part in draws_of(Changes(), 0)))
    mixture = torch.from_numpy(np.stack([UNMIXED, UNMIXED]))
    raw = RawVolumes(torch.randint(0, 256, (2, 2, *SIZE), dtype=torch.uint8), torch.ones(2, 2, 2), draws, mixture)
    with Listening():
        make_volumes(raw)
    assert asked <= LOWERED, (asked - LOWERED, LOWERED - asked)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_order_of_the_layers_is_kept(strength: float) -> None:
    layers, _ = layers_of(Eye.RIGHT)
    frames, rows, columns = layers.shape[1:]
    for seed in range(6):
        drawn, _ = draw_changes(
            (frames, rows, columns), Eye.RIGHT, AugmentConfig().changes, strength, np.random.default_rng(seed)
        )
        there = resample(torch.from_numpy(layers), torch.from_numpy(drawn.place)[None], 0, frames).numpy()
        assert np.abs(there - layers).max() > 0.5
        assert there.min() >= -1e-3
        assert there.max() <= 11.001
        deeper = np.diff(there[0], axis=1)
        # Where the rim of the disc is as steep as the voxels are wide, interpolation blurs a step across it.
        assert (deeper < -0.05).mean() < 1e-3, "inner layers under outer ones"
        assert deeper.min() > -0.6


def test_shifting_and_tilting_alone_keep_the_order_exactly() -> None:
    layers, _ = layers_of(Eye.RIGHT)
    there = moved(layers, NOWHERE._replace(axial_px=3.7, tilts_px=np.array([-6.0, 9.0])))
    assert np.diff(there[0], axis=1).min() >= -1e-5


def test_a_mirrored_right_eye_has_its_disc_where_a_left_eye_has_it() -> None:
    def disc_side(disc: np.ndarray) -> float:
        """Where the optic disc lies laterally: -1 left, 1 right."""
        across = np.linspace(-1, 1, disc.shape[-1])
        return float(np.average(across, weights=disc.sum(axis=0) + 1e-12))

    discs = {eye: layers_of(eye)[1] for eye in (Eye.RIGHT, Eye.LEFT)}
    assert disc_side(discs[Eye.RIGHT]) > 0.3
    assert disc_side(discs[Eye.LEFT]) < -0.3
    as_volume = np.repeat(discs[Eye.RIGHT][None, :, None, :], 2, axis=2).astype(np.float32)
    mirrored = moved(as_volume, NOWHERE, mirrored=True)
    assert disc_side(mirrored[0, :, 0]) == pytest.approx(-disc_side(discs[Eye.RIGHT]))
    np.testing.assert_array_equal(moved(mirrored, NOWHERE, mirrored=True), as_volume)


def test_the_flag_follows_every_mirror_image_of_the_augmenter() -> None:
    changes, seen = NOTHING.model_copy(update={"mirror": 0.5}).changes, set()
    for seed in range(20):
        changed, eye = change_volume(VOLUME, Eye.LEFT, changes, 1.0, np.random.default_rng(seed))
        mirrored = np.allclose(changed, VOLUME[..., ::-1], atol=1e-5)
        assert eye is (Eye.RIGHT if mirrored else Eye.LEFT)
        seen.add(eye)
        assert change_volume(VOLUME, Eye.UNKNOWN, changes, 1.0, np.random.default_rng(seed))[1] is Eye.UNKNOWN
    assert seen == {Eye.LEFT, Eye.RIGHT}


def test_at_strength_0_nothing_changes_at_all() -> None:
    changed, eye = change_volume(VOLUME, Eye.LEFT, EVERYTHING.changes, 0.0, np.random.default_rng(0))
    assert changed is VOLUME
    assert eye is Eye.LEFT
    assert Augmenter(EVERYTHING, 0.0, (0,)).draw_mixing(np.random.default_rng(0)) is None


def test_with_every_change_left_out_nothing_changes() -> None:
    changed, _ = change_volume(VOLUME, Eye.LEFT, NOTHING.changes, 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(changed, VOLUME, atol=5e-6)


def test_each_change_is_the_identity_at_zero() -> None:
    np.testing.assert_array_equal(moved(VOLUME, NOWHERE), VOLUME)
    np.testing.assert_allclose(lit(VOLUME, (1.0, 0.0, 0.0)), VOLUME, atol=1e-5)
    no_depth = np.array([[0.5], [0.1], [0.0]], np.float32)
    np.testing.assert_allclose(lit(VOLUME, (1.0, 0.0, 0.0), no_depth), VOLUME, atol=1e-5)
    there = torch.from_numpy(VOLUME)
    assert torch.equal(lose_frames(there, torch.zeros(1, 8)), there)
    for mixture, _ in (mixup(1.0), cutmix(SIZE, 1.0, np.random.default_rng(0)), (UNMIXED, 1.0)):
        assert torch.equal(mix(there, -there, torch.from_numpy(mixture)[None]), there)


def test_noise_is_white_normal_and_another_for_each_voxel_seed_and_stream() -> None:
    numbers = torch.arange(200_000, dtype=torch.int32)
    seeds = torch.tensor([[5, 6, 7], [6, 6, 7], [5, 6, 8]], dtype=torch.int32)
    one, other = (pair.double().numpy() for pair in normal_pair(numbers, seeds))
    for stream in (*one, *other):
        assert kstest(stream, "norm").pvalue > 0.001
    streams = np.concatenate([one, other])
    apart = np.corrcoef(streams) - np.eye(6)
    apart[0, 2] = apart[2, 0] = apart[3, 5] = apart[5, 3] = 0  # equal radii
    assert np.abs(apart).max() < 0.012
    assert max(abs(np.corrcoef(one[0, lag:], one[0, :-lag])[0, 1]) for lag in (1, 2, 384, 768)) < 0.012
    part = normal_pair(numbers[1000:2000], seeds)[0].double().numpy()
    np.testing.assert_array_equal(part, one[:, 1000:2000])


@pytest.mark.parametrize(("looks", "apart"), [(1.0, 0.013), (4.0, 0.002), (25.0, 3e-4)])
def test_speckle_multiplies_intensity_by_gamma_of_mean_one(looks: float, apart: float) -> None:
    normal = torch.from_numpy(RNG.normal(size=200_000))
    factor = log_speckle(normal, torch.tensor(looks**-0.5, dtype=torch.float64)).exp().numpy()
    assert factor.mean() == pytest.approx(1.0, abs=0.01)
    assert factor.std() == pytest.approx(looks**-0.5, rel=0.02)
    share = np.linspace(0.001, 0.999, 999)
    at = torch.from_numpy(normal_distribution.ppf(share))
    grain = log_speckle(at, torch.tensor(looks**-0.5, dtype=torch.float64)).exp().numpy()
    assert np.abs(gamma.cdf(grain, looks, scale=1 / looks) - share).max() < apart


def test_speckle_and_noise_are_as_strong_as_drawn() -> None:
    volume = RNG.normal(size=(1, 8, 64, 64)).astype(np.float32)
    nepers = (lit(volume, (1.0, 0.2, 0.0)) - volume) / (NEPER * (volume.max() - volume.min()))
    assert np.exp(nepers.astype(np.float64)).std() == pytest.approx(0.2, rel=0.02)
    assert abs(np.corrcoef(nepers.ravel(), volume.ravel())[0, 1]) < 0.02
    noise = lit(volume, (1.0, 0.0, 0.3)) - volume
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert abs(np.corrcoef(noise.ravel(), nepers.ravel())[0, 1]) < 0.02


def test_rotation_turns_and_shift_moves_as_asked() -> None:
    volume = np.zeros((1, 9, 41, 41), np.float32)
    volume[0, :, 20, 30] = 1.0
    turned = moved(volume, NOWHERE._replace(angles=np.array([np.pi / 2, 0.0])))
    place = np.unravel_index(turned[0, 4].argmax(), (41, 41))
    assert sorted(map(int, place)) in ([10, 20], [20, 30])
    assert place[1] == 20
    elsewhere = moved(volume, NOWHERE._replace(shifts=np.array([0.0, 3.0, -5.0])))
    assert np.unravel_index(elsewhere[0, 4].argmax(), (41, 41)) == (23, 25)
    grown = moved(volume, NOWHERE._replace(scales=np.array([1.0, 1.0, 1.5])))
    assert np.unravel_index(grown[0, 4].argmax(), (41, 41)) == (20, 35)


def test_an_axial_shift_and_tilt_move_every_a_scan_by_its_own_amount() -> None:
    shifted = moved(VOLUME, NOWHERE._replace(axial_px=4.0))
    np.testing.assert_allclose(shifted[0, :, 4:], VOLUME[0, :, :-4])
    np.testing.assert_array_equal(shifted[0, :, :4], np.repeat(VOLUME[0, :, :1], 4, axis=1))
    tilted = moved(VOLUME, NOWHERE._replace(tilts_px=np.array([0.0, 23.0])))
    np.testing.assert_allclose(tilted[0, :, 12:, -1], (VOLUME[0, :, :-12, -1] + VOLUME[0, :, 1:-11, -1]) / 2, atol=1e-4)


def test_shadows_darken_their_columns_through_the_whole_depth_and_lost_frames_are_black() -> None:
    dark = lit(VOLUME, (1.0, 0.0, 0.0), np.array([[0.5], [0.05], [2.0]], np.float32))
    assert (dark <= VOLUME + 1e-5).all()
    assert (dark[..., 12] < VOLUME[..., 12]).mean() > 0.5
    np.testing.assert_allclose(dark[..., :4], VOLUME[..., :4], atol=1e-4)
    lost = lose_frames(torch.from_numpy(VOLUME), torch.tensor([[0.0, 0, 1, 0, 0, 1, 0, 0]])).numpy()
    assert (lost[:, [2, 5]] == VOLUME.min()).all()
    assert (np.delete(lost, [2, 5], axis=1) == np.delete(VOLUME, [2, 5], axis=1)).all()


def test_intensities_are_those_of_the_preset_afterwards() -> None:
    changed, _ = change_volume(VOLUME, Eye.LEFT, EVERYTHING.changes, 1.0, np.random.default_rng(0))
    assert changed.dtype == np.float32
    assert changed.shape == VOLUME.shape
    assert float(changed.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(changed.std()) == pytest.approx(1.0, abs=1e-5)
    assert not np.allclose(changed, VOLUME, atol=0.1)


@given(st.floats(0.0, 1.0), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_share_of_a_mixture_is_the_share_of_its_voxels(share: float, seed: int) -> None:
    one, other = torch.zeros(1, 8, 24, 24), torch.ones(1, 8, 24, 24)
    for drawn, loss in ((cutmix((8, 24, 24), share, np.random.default_rng(seed)), 0.2), (mixup(share), 1e-6)):
        mixed = mix(one, other, torch.from_numpy(drawn[0])[None])
        assert drawn[1] == pytest.approx(1 - float(mixed.mean()), abs=1e-6)
        assert abs(drawn[1] - share) <= loss


def dataset_of(
    folder: Path, config: AugmentConfig, group: list[int] | None = None, kind: str = "float32"
) -> VolumeDataset:
    volumes = np.stack([np.full((1, *IMAGE_SIZE), value, np.float32) for value in range(6)])
    volumes += RNG.normal(0, 0.1, volumes.shape).astype(np.float32)
    images = ImageCache(folder, "none", kind)
    rows = rows_of([0, 1, 2, 0, 1, 2], "train", write_volumes(images, volumes))
    weights = np.array([1.0, 2.0, 3.0] * 2)
    return VolumeDataset(rows, images, np.array(group or [0] * 6), weights, 3, Augmenter(config, 1.0, (7,)))


def test_mixed_labels_share_weight_as_the_volumes_share_voxels(tmp_path: Path) -> None:
    mixing = NOTHING.model_copy(update={"cutmix": 1.0, "mixing": 1.0})
    dataset = dataset_of(tmp_path, mixing, [0, 0, 0, 1, 1, 1])
    mixed = 0
    for epoch in range(20):
        for row in range(6):
            _, label, group = dataset[Draw(row, epoch)]
            assert group == (0 if row < 3 else 1)
            share = float(label[row % 3]) / (row % 3 + 1)
            others = [float(label[c]) / (c + 1) for c in range(3) if c != row % 3]
            assert share + sum(others) == pytest.approx(1.0, abs=1e-5)
            mixed += share < 0.99
    assert mixed > 60


def test_without_augmentation_a_label_is_its_class_with_its_weight(tmp_path: Path) -> None:
    volume, label, _ = replace(dataset_of(tmp_path, NOTHING), augmenter=None)[Draw(4, 0)]
    assert label.tolist() == [0.0, 2.0, 0.0]
    assert volume.shape == (1, *IMAGE_SIZE)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("config", [AugmentConfig(), EVERYTHING], ids=["plain", "mixed"])
def test_a_device_makes_of_raw_volumes_what_the_host_makes(tmp_path: Path, config: AugmentConfig, kind: str) -> None:
    dataset = dataset_of(tmp_path, config, kind=kind)
    draws = [[Draw(row, epoch) for row in range(3)] for epoch in range(3)]
    host = list(VolumeFeed(dataset, CpuBackend("fp32"), 0).batches(draws))
    there = list(VolumeFeed(replace(dataset, raw=True), CpuBackend("fp32"), 0, pad_to=4).batches(draws))
    for one, other in zip(host, there, strict=True):
        torch.testing.assert_close(other.inputs[:3], one.inputs, atol=5e-5, rtol=0)
        assert torch.equal(other.label[:3], one.label)
        assert not other.label[3:].any()
        assert torch.isfinite(other.inputs).all()


def test_raw_volumes_travel_as_they_are_cached(tmp_path: Path) -> None:
    raw, _, _ = replace(dataset_of(tmp_path, AugmentConfig(), kind="uint8"), raw=True)[Draw(0, 0)]
    assert isinstance(raw, RawVolumes)
    assert (raw.stored.dtype, raw.stored.shape, raw.mixture) == (torch.uint8, (1, 1, *IMAGE_SIZE), None)
    pinned = raw.pin_memory() if torch.cuda.is_available() else raw.mapped(torch.clone)
    assert (pinned.stored.dtype, pinned.draws is None) == (torch.uint8, False)
    unchanged = replace(dataset_of(tmp_path, AugmentConfig(), kind="uint8"), raw=True, augmenter=None)
    raw, _, _ = unchanged[Draw(1, 0)]
    assert isinstance(raw, RawVolumes)
    image = unchanged.images.image(str(unchanged.table.volume[1]))
    np.testing.assert_array_equal(make_volumes(raw)[0].numpy(), image)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_is_the_same_whatever_the_worker_and_the_batch(tmp_path: Path, workers: int) -> None:
    dataset = dataset_of(tmp_path, EVERYTHING)
    draws = [Draw(row, 3) for row in range(6)]
    alone = [dataset[draw][0] for draw in draws]
    batches = [list(reversed(draws))[:4], list(reversed(draws))[4:]]
    read = torch.cat([volumes for volumes, *_ in read_batches(dataset, batches, workers)])
    assert all(torch.equal(one, other) for one, other in zip(reversed(alone), read, strict=True))


@pytest.mark.parametrize("raw", [False, True])
def test_batches_that_do_not_fit_into_shared_memory_are_refused_before_a_worker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    data = replace(dataset_of(tmp_path, AugmentConfig(), kind="uint8"), raw=raw)
    batches = [[Draw(row, 0) for row in range(6)]]
    room = data[batches[0][0]][0].nbytes * 6 * 5
    monkeypatch.setattr(reading.shutil, "disk_usage", lambda _: SimpleNamespace(free=room))
    reading.require_shared_memory(data, batches[0], 2)
    monkeypatch.setattr(reading.shutil, "disk_usage", lambda _: SimpleNamespace(free=room - 1))
    with pytest.raises(RunError, match=r"workers 2: expected .* MB of shared memory .*docker run --shm-size"):
        next(read_batches(data, batches, 2))
    assert len(list(read_batches(data, batches, 0))) == 1


def test_another_epoch_and_another_turn_are_another_sample(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, EVERYTHING)
    samples = [dataset[draw][0] for draw in (Draw(0, 1), Draw(0, 1), Draw(0, 2), Draw(0, 1, repeat=1))]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])
    assert not torch.equal(samples[0], samples[3])


def test_a_montage_shows_each_change_and_whole_volumes(tmp_path: Path) -> None:
    panels = montage_panels(VOLUME, -VOLUME, Eye.RIGHT, AugmentConfig(), 0)
    titles = [title for title, _ in panels]
    assert titles[:2] == ["as it is, eye R", "mirror, eye L"]
    assert len(titles) == 2 + 9 + 2 + 5
    assert sum(np.array_equal(panel, VOLUME) for _, panel in panels) == 1
    draw_montage(VOLUME, -VOLUME, Eye.RIGHT, AugmentConfig(), 0, tmp_path / "m.png")
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
