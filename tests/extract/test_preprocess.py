"""The encoder must see what it was pretrained on."""

import json
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dicom_files import layered_volume, make_file
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from embeddings_store.errors import UsageError, VolumeError
from embeddings_store.schema import Eye, Note
from extract.dicom.reader import read_dicom
from extract.errors import PreprocessError
from extract.preprocess import frame_chooser, frames_needed, preprocess
from extract.preset import PRESETS, Preset, load_preset
from extract.resize import plan_blend, resize_slices
from extract.volume import Volume

PRETRAIN, FINETUNE = PRESETS["pretrain"], PRESETS["finetune_v0"]
TORCH_TOLERANCE = 1e-5  # fixtures/preprocess: with torch's own interpolation


def whole(voxels: Any, **changes: Any) -> Volume:
    """A volume of which every frame is decoded."""
    count = len(voxels)
    volume = Volume(voxels, np.arange(count), count, None, (1.0, 0.0), Eye.UNKNOWN, "", "", "a test", Note.NONE)
    return replace(volume, **changes)


def part(voxels: Any, numbers: Any) -> Volume:
    return replace(whole(voxels), voxels=voxels[numbers], frame_numbers=numbers)


def as_torch_does(voxels: Any, image_size: tuple[int, int, int]) -> Any:
    values = torch.from_numpy(voxels.astype(np.float32))[None, None]
    resized = interpolate(values, image_size, mode="trilinear", align_corners=False)[0].double()
    return ((resized - resized.mean()) / resized.std(correction=0)).numpy()


class TestReference:
    @pytest.mark.parametrize("volume", ["a", "b", "c"])
    @pytest.mark.parametrize(("preset", "path"), [(PRETRAIN, "pretrain"), (FINETUNE, "finetune")])
    def test_arrays(self, reference: Path, volume: str, preset: Preset, path: str) -> None:
        raw = np.load(reference / f"preprocess/raw_{volume}.npy")
        expected = np.load(reference / f"preprocess/{path}_{volume}_8x40x40.npy")
        np.testing.assert_allclose(preprocess(whole(raw), preset, (8, 40, 40)), expected, rtol=0, atol=TORCH_TOLERANCE)

    @pytest.mark.parametrize(("preset", "path"), [(PRETRAIN, "pretrain"), (FINETUNE, "finetune")])
    def test_dicom_files(self, reference: Path, preset: Preset, path: str) -> None:
        folder = reference / "preprocess/dicom"
        arrays = np.load(folder / f"expected_{path}.npz")
        refused = {"single_frame", "one_frame_multi"}  # the record used them, which makes no sense
        compared = 0
        for name, case in json.loads((folder / "expected.json").read_text())["cases"].items():
            key = case.get(f"expected_{path}_array")
            if key is None or name in refused:
                continue
            volume = read_dicom((folder / f"{name}.dcm").read_bytes(), frames=frame_chooser(preset, 4))
            result = preprocess(volume, preset, (4, 20, 20))
            np.testing.assert_allclose(result, arrays[key], rtol=0, atol=TORCH_TOLERANCE, err_msg=name)
            compared += 1
        assert compared == 16

    def test_full_size(self, reference: Path) -> None:
        raw = np.load(reference / "preprocess/raw_a.npy")
        stated = json.loads((reference / "preprocess/info.json").read_text())["volumes"]["a"]["full_64x384x384"]
        result = preprocess(whole(raw), PRETRAIN, (64, 384, 384))
        assert list(result.shape) == stated["shape"]
        assert result.dtype == np.float32
        assert result.std(dtype=np.float64) == pytest.approx(stated["std"], abs=1e-4)
        assert [result.min(), result.max()] == pytest.approx([stated["min"], stated["max"]], abs=1e-3)
        for quantile, value in stated["quantiles"].items():
            assert np.quantile(result, float(quantile)) == pytest.approx(value, abs=1e-3)
        for voxel in stated["voxels"]:
            assert result[0, voxel["d"], voxel["h"], voxel["w"]] == pytest.approx(voxel["value"], abs=1e-3)


class TestFrames:
    @given(st.integers(2, 600), st.integers(1, 128))
    def test_at_most_two_frames_a_slice_and_ascending(self, count: int, depth: int) -> None:
        numbers = frames_needed(count, depth)
        assert len(numbers) <= min(2 * depth, count)
        assert (np.diff(numbers) > 0).all()
        assert numbers[0] >= 0
        assert numbers[-1] < count

    @given(st.integers(2, 200), st.sampled_from([1, 4, 8, 32, 64]))
    def test_these_are_the_frames_that_torch_weighs(self, count: int, depth: int) -> None:
        weights = interpolate(torch.eye(count)[None], depth, mode="linear", align_corners=False)[0]
        np.testing.assert_array_equal(frames_needed(count, depth), np.flatnonzero(weights.sum(1).numpy()))

    @given(st.integers(2, 80), st.integers(1, 20), st.sampled_from(["uint8", "uint16", "int16"]))
    @settings(max_examples=40)
    def test_a_subset_gives_the_same_input_as_all_frames(self, count: int, depth: int, dtype: str) -> None:
        voxels = layered_volume(count, 7, 9, dtype)
        some = part(voxels, frames_needed(count, depth))
        expected = preprocess(whole(voxels), PRETRAIN, (depth, 6, 10))
        if some.voxels[0, 0, 0] == voxels[0, 0, 0]:
            np.testing.assert_array_equal(preprocess(some, PRETRAIN, (depth, 6, 10)), expected)
        else:  # values are taken relative to another voxel
            np.testing.assert_allclose(preprocess(some, PRETRAIN, (depth, 6, 10)), expected, atol=TORCH_TOLERANCE)

    def test_a_512_frame_scan_needs_128(self) -> None:
        assert len(frames_needed(512, 64)) == 128

    def test_old_fine_tuning_needs_all(self) -> None:
        assert frame_chooser(FINETUNE, 64) is None
        some = part(layered_volume(20), frames_needed(20, 4))
        with pytest.raises(PreprocessError, match="needs all 20 frames"):
            preprocess(some, FINETUNE, (4, 8, 8))

    def test_frames_that_are_missing_are_an_error(self) -> None:
        some = part(layered_volume(20), frames_needed(20, 4))
        with pytest.raises(PreprocessError, match="a depth of 8 needs 16 frames"):
            preprocess(some, PRETRAIN, (8, 8, 8))


class TestPretrain:
    @given(
        st.tuples(st.integers(2, 40), st.integers(2, 40), st.integers(2, 40)),
        st.tuples(st.integers(1, 24), st.integers(2, 24), st.integers(2, 24)),
        st.sampled_from(["uint8", "uint16", "int16"]),
    )
    @settings(max_examples=60, deadline=None)
    def test_equals_torch_on_the_whole_float_volume(
        self, shape: tuple[int, int, int], size: tuple[int, int, int], dtype: str
    ) -> None:
        voxels = layered_volume(*shape, dtype)
        result = preprocess(whole(voxels), PRETRAIN, size)
        np.testing.assert_allclose(result, as_torch_does(voxels, size), rtol=0, atol=2e-5)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
    def test_frames_of_the_encoders_size_are_blended_alone(self, dtype: str) -> None:
        """To the last bit as from twice as many columns, of which each two are equal and halved."""
        voxels = layered_volume(20, 40, 44, dtype)
        alone, interpolated = np.empty((2, 8, 40, 44), np.float32)
        blend = plan_blend(20, 8)
        deque(resize_slices(voxels, blend, alone), maxlen=0)
        deque(resize_slices(voxels.repeat(2, axis=2), blend, interpolated), maxlen=0)
        np.testing.assert_array_equal(alone, interpolated)

    @given(st.sampled_from([77, 255, 40001]), st.integers(2, 30))
    def test_a_constant_volume_gives_exact_zeros(self, value: int, count: int) -> None:
        voxels = np.full((count, 13, 11), value, np.uint16)
        assert not preprocess(whole(voxels), PRETRAIN, (7, 9, 5)).any()

    @given(st.floats(0.01, 100), st.floats(-1000, 1000))
    @settings(max_examples=30)
    def test_a_rescale_cancels_but_for_its_sign(self, slope: float, intercept: float) -> None:
        voxels = layered_volume()
        plain = preprocess(whole(voxels), PRETRAIN, (4, 16, 16))
        rescaled = preprocess(whole(voxels, rescale=(slope, intercept)), PRETRAIN, (4, 16, 16))
        inverted = preprocess(whole(voxels, rescale=(-slope, intercept)), PRETRAIN, (4, 16, 16))
        tolerance = 1e-4 * (1 + abs(intercept) / slope / 60)  # float32 keeps 7 digits of slope x + intercept
        np.testing.assert_allclose(rescaled, plain, rtol=0, atol=tolerance)
        np.testing.assert_allclose(inverted, -plain, rtol=0, atol=tolerance)

    def test_the_volume_is_not_changed(self) -> None:
        voxels = layered_volume()
        before = voxels.copy()
        preprocess(whole(voxels), PRETRAIN, (4, 8, 8))
        preprocess(whole(voxels), FINETUNE, (4, 8, 8))
        np.testing.assert_array_equal(voxels, before)

    def test_infinite_results_are_an_error_of_this_volume(self) -> None:
        volume = whole(layered_volume(), rescale=(1e38, 0.0))
        with np.errstate(over="ignore", invalid="ignore"), pytest.raises(VolumeError, match="not finite") as caught:
            preprocess(volume, PRETRAIN, (4, 8, 8))
        assert caught.value.stage == "preprocess"


class TestPresets:
    def test_are_told_apart_by_every_field(self) -> None:
        assert PRETRAIN.to_dict() == {
            "name": "pretrain",
            "rescale": True,
            "move_long_axis": False,
            "clip_quantile": None,
            "min_max": False,
            "power": None,
            "resize": "trilinear",
            "z_score": True,
        }

    @pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
    def test_round_trip(self, preset: Preset) -> None:
        assert Preset.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset
        assert load_preset(preset.name) == preset

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("name: mine\nmin_max: true\npower: 0.5\n")
        preset = load_preset(str(path))
        assert preset == Preset(name="mine", min_max=True, power=0.5)
        result = preprocess(whole(layered_volume()), preset, (4, 8, 8))
        assert result.min() >= 0
        assert result.max() <= 1

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("name: a\nz_scor: true", "unknown field 'z_scor'"),
            ("z_score: true", "expected a field 'name'"),
            ("name: a\nz_score: 1", "z_score must be true or false; got 1"),
            ("name: a\nclip_quantile: 2", "clip_quantile must be"),
            ("name: a\nclip_quantile: yes", "clip_quantile must be"),
            ("name: a\npower: 0.8", "power needs min_max"),
            ("name: a\nresize: nearest", "resize must be trilinear, bilinear or bicubic; got 'nearest'"),
            ("name: pretrain\nz_score: true", "belongs to a built-in preset"),
            ("- 1", "expected keys and values, got list"),
            ("a: [", "cannot be read"),
            ("1: 2\nb: 3", "expected keys and values"),
        ],
    )
    def test_a_wrong_file_says_what_is_wrong(self, tmp_path: Path, text: str, complaint: str) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(UsageError, match=complaint):
            load_preset(str(path))

    @pytest.mark.parametrize("name", ["pretrian", "missing.yaml"])
    def test_a_wrong_name(self, name: str) -> None:
        with pytest.raises(UsageError, match=name):
            load_preset(name)


def test_real_b_scans_go_through(real_oct: Path) -> None:
    from PIL import Image

    voxels = np.stack([np.asarray(Image.open(path).convert("L")) for path in sorted((real_oct / "01").glob("*.png"))])
    volume = read_dicom(make_file(voxels), frames=frame_chooser(PRETRAIN, 8))
    result = preprocess(volume, PRETRAIN, (8, 96, 96))
    np.testing.assert_allclose(result, as_torch_does(voxels, (8, 96, 96)), rtol=0, atol=TORCH_TOLERANCE)
