"""Augmentation: nothing at strength 0, labels preserved, the right speckle, the same whatever the worker."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_study import IMAGE_SIZE, rows_of, write_volumes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from embeddings_store.schema import Eye
from extract.augment.change import move
from extract.augment.geometry import Affine, apply_affine, mirror, shift_axially, tilted_plane
from extract.augment.light import (
    add_noise,
    add_shadows,
    add_speckle,
    change_contrast,
    grey_per_neper,
    lose_frames,
    z_score,
)
from extract.phantom.anatomy import build_surfaces, draw_pose, layer_stack_um
from extract.phantom.effect import Thinning
from extract.phantom.eye import draw_eye
from extract.phantom.pattern import scan_pattern
from extract.phantom.scanners import PROTOCOLS
from finetune.data.augment.augmenter import Augmenter
from finetune.data.augment.mixing import cutmix, mixup
from finetune.data.augment.montage import NOTHING, draw_montage, montage_panels
from finetune.data.dataset import VolumeDataset, read_batches
from finetune.data.images import ImageCache
from finetune.data.sampling import Draw
from finetune.recipe.config import AugmentConfig

RNG = np.random.default_rng(0)
VOLUME = z_score(np.cumsum(RNG.normal(size=(1, 8, 32, 24)), axis=2).astype(np.float32))
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


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_the_order_of_the_layers_is_kept(strength: float) -> None:
    layers, _ = layers_of(Eye.RIGHT)
    names = ("rotation_degrees", "scaling", "shift", "mirror", "axial_shift", "tilt")
    places = NOTHING.model_copy(update={name: getattr(AugmentConfig(), name) for name in names})
    for seed in range(6):
        moved, _ = move(layers, Eye.RIGHT, places.changes, strength, np.random.default_rng(seed))
        assert np.abs(moved - layers).max() > 0.5
        assert moved.min() >= -1e-3
        assert moved.max() <= 11.001
        deeper = np.diff(moved[0], axis=1)
        # Where the rim of the disc is as steep as the voxels are wide, interpolation blurs a step across it.
        assert (deeper < -0.05).mean() < 1e-3, "inner layers under outer ones"
        assert deeper.min() > -0.6


def test_shifting_and_tilting_alone_keep_the_order_exactly() -> None:
    layers, _ = layers_of(Eye.RIGHT)
    plane = tilted_plane(layers.shape[1], layers.shape[3], shift_px=3.7, frame_tilt_px=-6.0, lateral_tilt_px=9.0)
    assert np.diff(shift_axially(layers, plane)[0], axis=1).min() >= -1e-5


def test_a_mirrored_right_eye_has_its_disc_where_a_left_eye_has_it() -> None:
    def disc_side(disc: np.ndarray) -> float:
        """Where the optic disc lies laterally: -1 left, 1 right."""
        across = np.linspace(-1, 1, disc.shape[-1])
        return float(np.average(across, weights=disc.sum(axis=0) + 1e-12))

    discs = {eye: layers_of(eye)[1] for eye in (Eye.RIGHT, Eye.LEFT)}
    assert disc_side(discs[Eye.RIGHT]) > 0.3
    assert disc_side(discs[Eye.LEFT]) < -0.3
    as_volume = np.repeat(discs[Eye.RIGHT][None, :, None, :], 2, axis=2).astype(np.float32)
    mirrored, now = mirror(as_volume, Eye.RIGHT)
    assert now is Eye.LEFT
    assert disc_side(mirrored[0, :, 0]) == pytest.approx(-disc_side(discs[Eye.RIGHT]))
    back, again = mirror(mirrored, now)
    assert again is Eye.RIGHT
    assert (back == as_volume).all()


def test_the_flag_follows_every_mirror_image_of_the_augmenter() -> None:
    augmenter = Augmenter(NOTHING.model_copy(update={"mirror": 0.5}), 1.0, ())
    seen = set()
    for seed in range(20):
        changed, eye = augmenter.change(VOLUME, Eye.LEFT, np.random.default_rng(seed))
        mirrored = np.allclose(changed, VOLUME[..., ::-1], atol=1e-5)
        assert eye is (Eye.RIGHT if mirrored else Eye.LEFT)
        seen.add(eye)
        assert augmenter.change(VOLUME, Eye.UNKNOWN, np.random.default_rng(seed))[1] is Eye.UNKNOWN
    assert seen == {Eye.LEFT, Eye.RIGHT}


def test_at_strength_0_nothing_changes_at_all() -> None:
    changed, eye = Augmenter(EVERYTHING, 0.0, (0,)).change(VOLUME, Eye.LEFT, np.random.default_rng(0))
    assert changed is VOLUME
    assert eye is Eye.LEFT
    assert Augmenter(EVERYTHING, 0.0, (0,)).draw_mixing(np.random.default_rng(0)) is None


def test_with_every_change_left_out_nothing_changes() -> None:
    changed, _ = Augmenter(NOTHING, 1.0, ()).change(VOLUME, Eye.LEFT, np.random.default_rng(0))
    np.testing.assert_allclose(changed, VOLUME, atol=2e-6)


def test_each_change_is_the_identity_at_zero() -> None:
    same = [
        apply_affine(VOLUME, Affine((0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))),
        shift_axially(VOLUME, np.zeros((8, 24))),
        change_contrast(VOLUME, 1.0),
        add_noise(VOLUME, 0.0, 1),
        add_shadows(VOLUME, *np.array([[0.5], [0.1], [0.0]], np.float32)),
        lose_frames(VOLUME, np.array([], np.int64)),
        mixup(VOLUME, -VOLUME, 1.0),
        cutmix(VOLUME, -VOLUME, 1.0, np.random.default_rng(0))[0],
        add_speckle(VOLUME, 1e7, np.random.default_rng(0)),
    ]
    for number, changed in enumerate(same):
        np.testing.assert_allclose(changed, VOLUME, atol=2e-3 if number == 8 else 1e-5, err_msg=str(number))


@pytest.mark.parametrize("looks", [1.0, 4.0, 25.0])
def test_speckle_multiplies_intensity_by_gamma_of_mean_one(looks: float) -> None:
    volume = RNG.normal(size=(1, 8, 64, 64)).astype(np.float32)
    changed = add_speckle(volume, looks, np.random.default_rng(3))
    factor = np.exp((changed - volume).astype(np.float64).ravel() / grey_per_neper(volume))
    assert factor.mean() == pytest.approx(1.0, abs=0.02)
    assert factor.std() == pytest.approx(looks**-0.5, rel=0.02)
    assert kstest(factor[:5000], "gamma", args=(looks, 0, 1 / looks)).pvalue > 0.01
    assert abs(np.corrcoef(factor, volume.ravel())[0, 1]) < 0.02


def test_rotation_turns_and_shift_moves_as_asked() -> None:
    volume = np.zeros((1, 9, 41, 41), np.float32)
    volume[0, :, 20, 30] = 1.0
    turned = apply_affine(volume, Affine((np.pi / 2, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    place = np.unravel_index(turned[0, 4].argmax(), (41, 41))
    assert sorted(map(int, place)) in ([10, 20], [20, 30])
    assert place[1] == 20
    moved = apply_affine(volume, Affine((0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 3.0, -5.0)))
    assert np.unravel_index(moved[0, 4].argmax(), (41, 41)) == (23, 25)
    grown = apply_affine(volume, Affine((0.0, 0.0), (1.0, 1.0, 1.5), (0.0, 0.0, 0.0)))
    assert np.unravel_index(grown[0, 4].argmax(), (41, 41)) == (20, 35)


def test_a_shift_moves_every_a_scan_by_its_own_amount() -> None:
    plane = np.zeros((8, 24))
    plane[:, 5] = 4.0
    shifted = shift_axially(VOLUME, plane)
    np.testing.assert_allclose(shifted[0, :, 4:, 5], VOLUME[0, :, :-4, 5])
    np.testing.assert_allclose(np.delete(shifted, 5, axis=3), np.delete(VOLUME, 5, axis=3), atol=1e-6)


def test_shadows_darken_their_columns_through_the_whole_depth_and_lost_frames_are_black() -> None:
    dark = add_shadows(VOLUME, *np.array([[0.5], [0.05], [2.0]], np.float32))
    assert (dark <= VOLUME).all()
    assert (dark[..., 12] < VOLUME[..., 12]).mean() > 0.5
    np.testing.assert_allclose(dark[..., :4], VOLUME[..., :4], atol=1e-4)
    lost = lose_frames(VOLUME, np.array([2, 5]))
    assert (lost[:, [2, 5]] == VOLUME.min()).all()
    assert (np.delete(lost, [2, 5], axis=1) == np.delete(VOLUME, [2, 5], axis=1)).all()


def test_intensities_are_those_of_the_preset_afterwards() -> None:
    changed, _ = Augmenter(EVERYTHING, 1.0, ()).change(VOLUME, Eye.LEFT, np.random.default_rng(0))
    assert changed.dtype == np.float32
    assert changed.shape == VOLUME.shape
    assert float(changed.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(changed.std()) == pytest.approx(1.0, abs=1e-5)
    assert not np.allclose(changed, VOLUME, atol=0.1)


@given(st.floats(0.0, 1.0), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_share_of_a_mixture_is_the_share_of_its_voxels(share: float, seed: int) -> None:
    one, other = np.zeros((1, 8, 24, 24), np.float32), np.ones((1, 8, 24, 24), np.float32)
    mixed, kept = cutmix(one, other, share, np.random.default_rng(seed))
    assert kept == pytest.approx(1 - float(mixed.mean()), abs=1e-6)
    assert abs(kept - share) < 0.2
    assert float(mixup(one, other, share).mean()) == pytest.approx(1 - share, abs=1e-6)


def dataset_of(folder: Path, config: AugmentConfig, group: list[int] | None = None) -> VolumeDataset:
    volumes = np.stack([np.full((1, *IMAGE_SIZE), value, np.float32) for value in range(6)])
    volumes += RNG.normal(0, 0.1, volumes.shape).astype(np.float32)
    images = ImageCache(folder, "none", "float32")
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


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_is_the_same_whatever_the_worker_and_the_batch(tmp_path: Path, workers: int) -> None:
    dataset = dataset_of(tmp_path, EVERYTHING)
    draws = [Draw(row, 3) for row in range(6)]
    alone = [dataset[draw][0] for draw in draws]
    batches = [list(reversed(draws))[:4], list(reversed(draws))[4:]]
    read = torch.cat([volumes for volumes, *_ in read_batches(dataset, batches, workers)])
    assert all(torch.equal(one, other) for one, other in zip(reversed(alone), read, strict=True))


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
