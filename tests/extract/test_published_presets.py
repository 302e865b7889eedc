"""Published encoders see what their authors' own code showed them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dicom_files import make_file
from test_preprocess import part, whole
from torch.nn.functional import interpolate

from embeddings_store.errors import UsageError, VolumeError
from extract.encoder_options import Preprocessing
from extract.errors import PreprocessError
from extract.file_options import PreprocessOptions
from extract.pictures import even_frames, fit_size
from extract.preprocess import frame_chooser, preprocess
from extract.preset import PRESETS, Preset, load_preset
from extract.single import preprocess_file

RNG = np.random.default_rng(7)
FRAMES = RNG.integers(0, 256, (9, 50, 70), dtype=np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def official(encoder_fixtures: Path) -> Any:
    return lambda name: np.load(encoder_fixtures / name / "preprocess.npz")


@pytest.fixture
def encoder_fixtures(reference: Path) -> Path:
    return reference / "encoders"


class TestOfficialArrays:
    """What the authors' code gave (fixtures/encoders): far nearer than the tolerance of each."""

    def test_retfound(self, official: Any) -> None:
        known = official("retfound_mae")
        seen = preprocess(whole(known["volume"]), PRESETS["retfound"], (3, 224, 224))
        assert (seen.shape, seen.dtype) == ((3, 3, 224, 224), np.float32)
        np.testing.assert_allclose(seen[:, 0], known["finetune_eval_frame0"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(seen.mean((2, 3)).T, known["finetune_eval_means"], rtol=0, atol=1e-5)

    def test_retfound_notebook(self, official: Any) -> None:
        known = official("retfound_mae")
        seen = preprocess(whole(known["volume"]), PRESETS["retfound_notebook"], (3, 224, 224))
        np.testing.assert_allclose(seen[0, 0], known["notebook_frame0_channel0"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(seen.std((2, 3)).T, known["notebook_stds"], rtol=0, atol=1e-3)

    def test_mirage(self, official: Any) -> None:
        known = official("mirage")
        seen = preprocess(whole(known["volume"]), PRESETS["mirage"], (2, 512, 512))
        assert seen.shape == (1, 2, 512, 512)
        np.testing.assert_allclose(seen[0, 0], known["frame0"], rtol=0, atol=5e-4)  # kept as float16
        np.testing.assert_allclose(seen[0].mean((1, 2)), known["means"], rtol=0, atol=1e-6)

    def test_visionfm(self, official: Any) -> None:
        known = official("visionfm")
        seen = preprocess(whole(known["frame"][None]), PRESETS["visionfm"], (1, 224, 224))
        np.testing.assert_allclose(seen[:, 0], known["prepared"], rtol=0, atol=1e-6)

    def test_octcube(self, official: Any) -> None:
        known = official("octcube")
        seen = preprocess(whole(known["volume"]), PRESETS["octcube"], (12, 64, 64))
        np.testing.assert_allclose(seen, known["notebook"], rtol=0, atol=1e-6)

    def test_vjepa2_is_a_centre_crop_of_a_plain_bilinear_resize(self) -> None:
        seen = preprocess(whole(FRAMES), PRESETS["vjepa2"], (3, 56, 56))
        frame = torch.from_numpy(FRAMES[even_frames(9, 3)[1]].astype(np.float32))[None, None]
        large = interpolate(frame, (64, 89), mode="bilinear", align_corners=False)[0, 0].numpy()  # 56 * 256 / 224
        expected = (large[4:60, 16:72] / 255 - MEAN[2]) / STD[2]
        np.testing.assert_allclose(seen[2, 1], expected, rtol=0, atol=1e-5)

    def test_siglip_squeezes_and_centres_at_half(self) -> None:
        seen = preprocess(whole(FRAMES), PRESETS["siglip"], (9, 32, 32))
        assert seen.shape == (3, 9, 32, 32)
        assert -1 <= seen.min() < seen.max() <= 1


class TestCrop:
    @pytest.mark.parametrize(
        ("preset", "side", "fitted"),
        [("retfound", 224, (256, 358)), ("retfound", 384, (384, 537)), ("imagenet", 384, (438, 613)),
         ("retfound", 64, (73, 102)), ("vjepa2", 256, (292, 408)), ("siglip", 224, (224, 224))],
    )  # fmt: skip
    def test_size_before_the_crop(self, preset: str, side: int, fitted: tuple[int, int]) -> None:
        assert fit_size((50, 70), PRESETS[preset], (side, side)) == fitted

    def test_a_tall_frame_and_an_oblong_input(self) -> None:
        assert fit_size((70, 50), PRESETS["retfound"], (224, 224)) == (358, 256)
        rows, columns = fit_size((50, 70), PRESETS["vjepa2"], (96, 64))
        assert rows >= 96
        assert columns >= 64

    def test_an_absurd_frame_is_refused(self) -> None:
        with pytest.raises(PreprocessError, match="too narrow"):
            preprocess(whole(np.zeros((2, 1, 60_000), np.uint8)), PRESETS["retfound"], (2, 4096, 4096))


class TestFrames:
    @pytest.mark.parametrize("stored", [1, 2, 7, 16, 31, 61, 128, 512])
    def test_evenly_spaced_with_the_centre_among_them(self, stored: int) -> None:
        for wanted in range(1, stored + 1):
            numbers = even_frames(stored, wanted)
            steps = np.diff(numbers)
            assert len(set(numbers.tolist())) == wanted
            assert stored // 2 in numbers
            assert numbers[0] >= 0
            assert numbers[-1] < stored
            assert wanted < 2 or steps.max() - steps.min() <= 1

    def test_an_example(self) -> None:
        assert even_frames(128, 16).tolist() == list(range(0, 128, 8))
        assert even_frames(31, 1).tolist() == [15]
        assert even_frames(61, 3).tolist() == [10, 30, 50]
        assert even_frames(3, 6).tolist() == [0, 0, 1, 1, 2, 2]

    def test_only_the_slices_are_looked_at(self) -> None:
        preset = replace(PRESETS["retfound"], slices=3)
        choose = frame_chooser(preset, 3)
        assert choose is not None
        numbers = choose(9)
        assert numbers.tolist() == [1, 4, 7]
        partly = preprocess(part(FRAMES, numbers), preset, (3, 32, 32))
        np.testing.assert_array_equal(partly, preprocess(whole(FRAMES), preset, (3, 32, 32)))

    def test_too_few_frames_are_no_slices(self) -> None:
        with pytest.raises(
            PreprocessError,
            match="expected at least 16 frames for 16 slices, got 9; frames are never repeated: take --slices 9",
        ):
            preprocess(whole(FRAMES), PRESETS["retfound"], (16, 32, 32))

    def test_too_few_frames_repeat_in_a_clip(self) -> None:
        seen = preprocess(whole(FRAMES), PRESETS["vjepa2"], (18, 32, 32))
        np.testing.assert_array_equal(seen[:, 0], seen[:, 1])

    def test_all_is_every_frame_and_no_other_number(self) -> None:
        preset = replace(PRESETS["mirage"], slices="all")
        choose = frame_chooser(preset, 9)
        assert choose is not None
        assert choose(9).tolist() == list(range(9))
        assert preprocess(whole(FRAMES), preset, (9, 32, 32)).shape == (1, 9, 32, 32)
        with pytest.raises(PreprocessError, match="expected exactly 8 frames for 8 slices, got 9"):
            preprocess(whole(FRAMES), preset, (8, 32, 32))

    @pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.scale])
    def test_grey_levels_of_16_bits_are_not_divided_by_255(self, name: str) -> None:
        with pytest.raises(VolumeError, match="takes 8-bit frames, got uint16; give a preset of your own"):
            preprocess(whole(FRAMES.astype(np.uint16) * 257), PRESETS[name], (4, 32, 32))

    @pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.slices])
    def test_a_constant_frame_stays_finite(self, name: str) -> None:
        assert np.isfinite(preprocess(whole(np.full((2, 40, 40), 9, np.uint8)), PRESETS[name], (2, 32, 32))).all()

    def test_16_bits_by_a_preset_of_ones_own(self) -> None:
        own = replace(PRESETS["retfound"], name="mine", scale=None, min_max=True)
        wide = preprocess(whole(FRAMES.astype(np.uint16) * 257), own, (4, 32, 32))
        np.testing.assert_allclose(wide, preprocess(whole(FRAMES), own, (4, 32, 32)), rtol=0, atol=1e-4)


class TestCropAndMask:
    def test_margins_are_cut_first(self) -> None:
        preset = Preprocessing(crop=(10, 0, 0.5, 0)).prepared("mirage", (9, 16, 16))
        seen = preprocess(whole(FRAMES), preset, (9, 16, 16))
        np.testing.assert_array_equal(seen, preprocess(whole(FRAMES[:, 10:, 35:]), PRESETS["mirage"], (9, 16, 16)))

    @pytest.mark.parametrize("name", ["pretrain", "finetune_v0", "retfound", "octcube"])
    def test_a_mask_hides_what_is_under_it(self, name: str) -> None:
        preset = Preprocessing(preset=name, mask=("0,5,0,1.0", "40,50,60,70")).prepared(None, (9, 16, 16))
        other = FRAMES.copy()
        other[:, :5], other[:, 40:50, 60:70] = 255, 255
        before = other.copy()
        seen = preprocess(whole(other), preset, (9, 16, 16))
        np.testing.assert_array_equal(seen, preprocess(whole(FRAMES), preset, (9, 16, 16)))
        np.testing.assert_array_equal(other, before)

    def test_they_are_part_of_the_space(self) -> None:
        plain, cut = PRESETS["pretrain"], Preprocessing(crop=(0, 0, 0.25, 0)).prepared(None)
        assert cut.to_dict() == plain.to_dict() | {"margins": (0, 0, 0.25, 0)}

    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"crop": (30, 20, 0, 0)}, "leaves nothing of frames of 50 x 70"),
         ({"mask": ("0,60,0,5",)}, "no rectangle of frames of 50 x 70"),
         ({"mask": ("5,5,0,5",)}, "no rectangle")],
    )  # fmt: skip
    def test_what_does_not_fit_the_frames(self, changes: Any, words: str) -> None:
        with pytest.raises(PreprocessError, match=words):
            preprocess(whole(FRAMES), Preprocessing(**changes).prepared("mirage", (9, 16, 16)), (9, 16, 16))

    @pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,0,1.5,0", "-1,0,0,0", "", "0,0,nan,0", "0,0,0,1e-1"])
    def test_what_is_no_rectangle(self, text: str) -> None:
        with pytest.raises(UsageError, match="--mask: expected first row,end row"):
            Preprocessing(mask=(text,)).prepared(None)


class TestData:
    def test_spaces_of_before_keep_their_presets(self) -> None:
        """Their ids hang on every byte of this."""
        assert PRESETS["pretrain"].to_dict() == {
            "name": "pretrain", "rescale": True, "move_long_axis": False, "clip_quantile": None, "min_max": False,
            "power": None, "resize": "trilinear", "z_score": True,
        }  # fmt: skip
        assert PRESETS["finetune_v0"].to_dict() == {
            "name": "finetune_v0", "rescale": False, "move_long_axis": True, "clip_quantile": 0.99, "min_max": True,
            "power": 0.8, "resize": "trilinear", "z_score": False,
        }  # fmt: skip

    @pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
    def test_every_preset_comes_back_from_its_data(self, preset: Preset) -> None:
        assert Preset.from_dict(preset.to_dict()) == preset

    @pytest.mark.parametrize(
        ("fields", "words"),
        [({"scale": 0}, "scale must be"), ({"scale": True}, "scale must be"), ({"channels": 2}, "1 or 3"),
         ({"channels": True}, "1 or 3"), ({"resize": "bicubic"}, "frames: even goes with"),
         ({"frames": "even"}, "frames: even goes with"), ({"slices": 4}, "they need frames: even"),
         ({"slices": 0}, "slices must be"), ({"crop": 0.9}, "crop needs resize"), ({"mean": [0.5]}, "need each other"),
         ({"mean": [0.5, 0.5], "std": [1, 1]}, "one number per channel"), ({"mean": [0], "std": [0]}, "above 0"),
         ({"per_slice": "max"}, "per_slice must be"), ({"antialias": True}, "antialias needs"),
         ({"mask": [[0, 1, 2]]}, "mask must be"), ({"margins": [0, 0, 0, 1.5]}, "margins must be"),
         ({"min_max": True, "scale": 255}, "scale divides grey levels"), ({"crop_up_to": 3}, "crop_up_to needs crop"),
         ({"mean": [float("nan")], "std": [1]}, "mean must be")],
    )  # fmt: skip
    def test_what_is_no_preset(self, fields: Any, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            Preset.from_dict({"name": "mine"} | fields)

    def test_a_file_nested_without_end_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "deep.yaml").write_text("[" * 20_000)
        with pytest.raises(UsageError, match="cannot be read"):
            load_preset(str(tmp_path / "deep.yaml"))


class TestSlicesOption:
    def test_number_and_image_size_agree(self) -> None:
        assert Preprocessing().prepared("retfound").slices == 16
        assert Preprocessing(slices=8).prepared("retfound", (8, 224, 224)).slices == 8
        assert Preprocessing().prepared("retfound", (3, 224, 224)).slices == 3
        with pytest.raises(UsageError, match="--slices 8: expected 3, the frames of the image size"):
            Preprocessing(slices=8).prepared("retfound", (3, 224, 224))

    def test_volumes_have_none(self) -> None:
        for name in ("pretrain", "octcube", "vjepa2"):
            with pytest.raises(UsageError, match=f"--slices: the preset '{name}' is of whole volumes"):
                Preprocessing(slices=8).prepared(name)

    @pytest.mark.parametrize(
        ("options", "shape"),
        [({"slices": 4}, (3, 4, 224, 224)), ({"slices": "all"}, (3, 9, 224, 224)), ({"slices": 1}, (3, 1, 224, 224)),
         ({"image_size": (2, 32, 32)}, (3, 2, 32, 32)), ({"slices": "all", "image_size": (9, 32, 32)}, (3, 9, 32, 32))],
    )  # fmt: skip
    def test_of_one_file(self, tmp_path: Path, options: Any, shape: tuple[int, ...]) -> None:
        (tmp_path / "scan.dcm").write_bytes(make_file(FRAMES))
        out = tmp_path / "x.npy"
        preprocess_file(PreprocessOptions(file=tmp_path / "scan.dcm", out=out, preset="retfound", **options))
        seen = np.load(out)
        assert (seen.shape, seen.dtype) == (shape, np.float32)

    def test_of_a_file_with_too_few_frames(self, tmp_path: Path) -> None:
        (tmp_path / "scan.dcm").write_bytes(make_file(FRAMES))
        with pytest.raises(PreprocessError, match="at least 16 frames"):
            preprocess_file(PreprocessOptions(file=tmp_path / "scan.dcm", out=tmp_path / "x.npy", preset="retfound"))
        assert not (tmp_path / "x.npy").exists()


def test_the_preset_of_the_docs_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
    (tmp_path / "own.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    own = load_preset(str(tmp_path / "own.yaml"))
    wide = preprocess(whole(FRAMES.astype(np.uint16) * 257), replace(own, slices=4), (4, 32, 32))
    assert wide.shape == (3, 4, 32, 32)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {*PRESETS} - {"finetune_v0"} <= {row.split("`")[1] for row in rows}
