"""Brightness kept beside the vectors: of the resized volume, in the units of the file, whatever the preset does."""

from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
import torch
from dicom_files import compress, layered_volume, make_file
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.uid import JPEGLSLossless
from torch.nn.functional import interpolate

from embeddings_store.schema import Eye, Intensity, Note
from extract.dicom.reader import read_dicom
from extract.intensity import pick_ranks
from extract.moments import Moments
from extract.pictures import even_frames
from extract.preprocess import frame_chooser, preprocess, preprocess_and_measure
from extract.preset import PRESETS, Preset
from extract.volume import Volume

SIZE = (8, 40, 44)
BLENDED = [preset for preset in PRESETS.values() if preset.frames == "blend" and not preset.scale]
PRESENT = [*BLENDED, Preset("plain"), Preset("mine", rescale=True, z_score=True, clip_quantile=0.9)]


def whole(voxels: Any, rescale: tuple[float, float] = (1.0, 0.0)) -> Volume:
    count = len(voxels)
    return Volume(voxels, np.arange(count), count, None, rescale, Eye.UNKNOWN, "", "", "a test", Note.NONE)


def as_defined(voxels: Any) -> Intensity:
    """What schema.Intensity says, done the plain way."""
    values = torch.from_numpy(voxels.astype(np.float32))[None, None]
    seen = interpolate(values, SIZE, mode="trilinear", align_corners=False)[0, 0, :, ::4, ::4].double().numpy()
    return Intensity(seen.mean(), seen.std(), *np.percentile(seen, [1, 50, 99]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("preset", PRESENT, ids=lambda preset: preset.name)
def test_it_is_what_the_schema_says_for_every_preset(preset: Preset, dtype: str) -> None:
    voxels = layered_volume(20, 50, 60, dtype)
    measured = preprocess_and_measure(whole(voxels, (2.0, -7.0)), preset, SIZE).intensity
    np.testing.assert_allclose(astuple(measured), astuple(as_defined(voxels)), rtol=2e-5)


@pytest.mark.parametrize("preset", [one for one in PRESETS.values() if one.scale], ids=lambda preset: preset.name)
def test_of_8_bit_presets_it_is_that_of_the_frames_in_use(preset: Preset) -> None:
    voxels = layered_volume(20, 50, 60)
    used = voxels if preset.frames == "blend" else voxels[even_frames(20, SIZE[0])]
    measured = preprocess_and_measure(whole(voxels), preset, SIZE).intensity
    np.testing.assert_allclose(astuple(measured), astuple(as_defined(used)), rtol=2e-5)


def test_the_decoded_frames_are_enough() -> None:
    data = compress(layered_volume(40, 48, 48), JPEGLSLossless)
    some = read_dicom(data, frames=frame_chooser(PRESETS["pretrain"], SIZE[0]))
    every = read_dicom(data)
    assert len(some.frame_numbers) < len(every.frame_numbers)
    one, other = (preprocess_and_measure(volume, PRESETS["pretrain"], SIZE).intensity for volume in (some, every))
    np.testing.assert_allclose(astuple(one), astuple(other), rtol=1e-5)


def test_a_constant_volume_has_its_value_and_no_spread() -> None:
    measured = preprocess_and_measure(whole(np.full((9, 20, 20), 40001, np.uint16)), PRESETS["pretrain"], SIZE)
    assert measured.intensity == Intensity(40001.0, 0.0, 40001.0, 40001.0, 40001.0)


def test_a_brighter_scan_is_brighter_though_its_input_is_the_same() -> None:
    voxels = layered_volume(20, 50, 60)
    dark, bright = (
        preprocess_and_measure(whole(values), PRESETS["pretrain"], SIZE) for values in (voxels, voxels + 40)
    )
    np.testing.assert_allclose(bright.image, dark.image, atol=2e-5)
    assert bright.intensity.mean == pytest.approx(dark.intensity.mean + 40)
    assert bright.intensity.sd == pytest.approx(dark.intensity.sd, rel=1e-5)


def test_preprocess_gives_the_same_input_without_it() -> None:
    volume = read_dicom(make_file(layered_volume(20)))
    image = preprocess_and_measure(volume, PRESETS["pretrain"], SIZE).image
    np.testing.assert_array_equal(preprocess(volume, PRESETS["pretrain"], SIZE), image)


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e3, 1e3, width=32)), st.data())
def test_ranks_are_picked_as_from_sorted_values(values: Any, data: Any) -> None:
    ranks = np.array(sorted(data.draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=6))))
    np.testing.assert_array_equal(pick_ranks(values, ranks), np.sort(values)[ranks])


class TestMoments:
    @given(st.integers(1, 6), st.floats(-1e5, 1e5), st.floats(0.01, 1e3), st.integers(0, 2**32 - 1))
    @settings(max_examples=50, deadline=None)
    def test_pieces_give_the_moments_of_the_whole(self, pieces: int, mean: float, sd: float, seed: int) -> None:
        values = np.random.default_rng(seed).normal(mean, sd, (pieces, 3, 17, 23)).astype(np.float32)
        moments = Moments()
        for piece in values:
            moments.add(piece)
        exact = values.astype(np.float64)
        assert moments.count == values.size
        assert moments.mean == pytest.approx(exact.mean(), rel=1e-6, abs=1e-4 * sd)
        assert moments.sd == pytest.approx(exact.std(), rel=1e-4, abs=1e-6 * abs(mean))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
    def test_what_does_not_fit_float32_is_told(self, value: float) -> None:
        moments = Moments()
        plane = np.zeros((1, 4, 4), np.float32)
        moments.add(plane)
        assert moments.fit_float32()
        plane[0, 1, 1] = value
        with np.errstate(all="ignore"):
            moments.add(plane)
        assert not moments.fit_float32()


def test_a_tiny_spread_gives_no_infinity() -> None:
    volume = replace(whole(layered_volume(9)), rescale=(1e-42, 0.0))
    assert np.isfinite(preprocess(volume, PRESETS["pretrain"], SIZE)).all()
