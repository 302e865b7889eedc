"""A Hugging Face folder as a checkpoint: what loads, what is refused and why, and the commands that take it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Command
from safetensors.torch import load_file, save_file

from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import weights_digest
from extract.encoder.file_form import as_hugging_face
from extract.encoder.hugging_face import claims_of_config_json
from extract.encoder.safetensors_file import export_safetensors
from extract.errors import CheckpointError

Weights = dict[str, torch.Tensor]


@pytest.fixture
def folder(reference: Path, tmp_path: Path) -> Path:
    """Give a copy of the fixture's model that a test may change."""
    copy = tmp_path / "model"
    copy.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(reference / "vjepa2_hf" / name, copy / name)
    return copy


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {field: value for field, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))


def change_weights(folder: Path, change: Callable[[Weights], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_sizes_come_from_config_and_tensors(folder: Path) -> None:
    encoder = load_checkpoint(folder)
    architecture = encoder.architecture
    assert architecture.family == "vjepa2"
    assert (architecture.image_size, architecture.patch, architecture.grid) == ((6, 32, 32), (2, 8, 8), (3, 4, 4))
    assert (architecture.width, architecture.depth, architecture.heads, architecture.mlp_width) == (48, 2, 3, 192)
    assert encoder.source == "model"
    assert not encoder.module.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in encoder.module.parameters())


def test_only_the_encoder_is_read(folder: Path) -> None:
    """A predictor full of NaN, or none, changes nothing: the digest is that of the encoder's tensors alone."""
    before = load_checkpoint(folder).weights_sha256
    own = {
        name.removeprefix("encoder."): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
        if name.startswith("encoder.")
    }
    assert before == weights_digest(own)
    change_weights(folder, lambda weights: weights["predictor.layernorm.weight"].fill_(torch.nan))
    assert load_checkpoint(folder).weights_sha256 == before


def test_half_precision_weights_are_widened(folder: Path) -> None:
    before = load_checkpoint(folder)
    change_weights(folder, lambda w: w.update({name: tensor.half() for name, tensor in w.items()}))
    after = load_checkpoint(folder)
    assert {p.dtype for p in after.module.parameters()} == {torch.float32}
    assert after.weights_sha256 != before.weights_sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vit"}, "model_type: expected one of 'vjepa2', .* got 'vit'"),
        ({"model_type": ...}, "model_type: expected one of 'vjepa2', .* got None"),
        ({"hidden_act": "gelu_new"}, "hidden_act: expected 'gelu', .* got 'gelu_new'"),
        ({"in_chans": 1}, "in_chans: expected 3, .* got 1"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps: expected 1e-06, .* got 1e-05"),
        ({"qkv_bias": False}, "qkv_bias: expected True, .* got False"),
        ({"interpolate_rope": True}, "interpolate_rope: expected no such field .* got True"),
        ({"patch_size": [8, 8]}, r"patch_size: expected a whole number from 1, got \[8, 8\]"),
        ({"num_attention_heads": ...}, "num_attention_heads: expected a whole number from 1, got None"),
        ({"num_attention_heads": True}, "num_attention_heads: expected a whole number from 1, got True"),
        ({"num_attention_heads": 5}, "5 heads: expected a number that divides the width 48"),
        ({"frames_per_clip": 7}, "image size 7x32x32: expected multiples of the patch 2x8x8"),
        ({"crop_size": 0}, "crop_size: expected a whole number from 1, got 0"),
        ({"mlp_ratio": "4"}, "mlp_ratio: expected a number above 0, got '4'"),
        ({"mlp_ratio": 2.0}, "says MLP width 96, but its tensors have 192"),
        ({"hidden_size": 64}, "says width 64, but its tensors have 48"),
        ({"num_hidden_layers": 3}, "says depth 3, but its tensors have 2"),
        ({"tubelet_size": 1}, r"says patch_size \(1, 8, 8\), but its tensors have \(2, 8, 8\)"),
    ],
)
def test_another_config_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_the_width_of_a_fractional_mlp_ratio_is_rounded_as_in_the_original(reference: Path) -> None:
    """The giant public encoder says 4.363636363636363 for 1408 -> 6144."""
    config = json.loads((reference / "vjepa2_hf" / "config.json").read_text())
    giant = config | {"hidden_size": 1408, "mlp_ratio": 4.363636363636363}
    assert claims_of_config_json(giant, "giant").mlp_width == int(1408 * 4.363636363636363)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("encoder.layer.1.attention.key.bias"), r"tensor layer\.1\.attention\.key\.bias is missing"),
        (lambda w: w.pop("encoder.embeddings.patch_embeddings.proj.weight"), r"proj\.weight is missing"),
        (lambda w: w.update({"encoder.layer.0.ls1": torch.ones(48)}), r"unexpected tensor layer\.0\.ls1"),
        (lambda w: w.update({"encoder.layernorm.bias": torch.ones(49)}), r"layernorm\.bias: expected shape 48, got 49"),
        (
            lambda w: w.update({"encoder.embeddings.patch_embeddings.proj.weight": torch.ones(48, 1, 2, 8, 8)}),
            "expected 3 channels, got 1",
        ),
        (lambda w: w["encoder.layernorm.weight"][3:5].fill_(torch.nan), r"layernorm\.weight: .* got 2 NaN"),
        (lambda w: w["encoder.layernorm.weight"][3:4].fill_(torch.inf), r"layernorm\.weight: .* got 1 NaN or infinite"),
        (
            lambda w: w.update({"encoder.layernorm.weight": torch.ones(48, dtype=torch.int8)}),
            "expected floating-point weights, got torch.int8",
        ),
        (
            lambda w: [w.pop(name) for name in list(w) if name.startswith("encoder.")],
            r"holds no context encoder of vjepa2: expected tensors named encoder\.\*",
        ),
    ],
)
def test_changed_tensors_are_named(folder: Path, change: Callable[[Weights], None], message: str) -> None:
    change_weights(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


class TestOtherFolders:
    """What users point to by mistake."""

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"is a directory without config\.json; expected"):
            load_checkpoint(tmp_path)

    def test_no_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        with pytest.raises(CheckpointError, match=r"in one file model\.safetensors, got .*model-00001-of-00002"):
            load_checkpoint(folder)

    def test_a_git_lfs_pointer(self, folder: Path) -> None:
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(CheckpointError, match="run git lfs pull"):
            load_checkpoint(folder)

    @pytest.mark.parametrize("damaged", [b"", b"\x00" * 40, b"garbage"])
    def test_damaged_weights(self, folder: Path, damaged: bytes) -> None:
        (folder / "model.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(folder)

    def test_cut_off_weights(self, folder: Path) -> None:
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[:-100])
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(folder)

    @pytest.mark.parametrize(("text", "message"), [("{", "is no JSON"), ("[1]", "expected a JSON object, got list")])
    def test_a_damaged_config(self, folder: Path, text: str, message: str) -> None:
        (folder / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)

    def test_the_weights_without_their_folder(self, folder: Path) -> None:
        with pytest.raises(CheckpointError, match=r"point to the folder that holds config\.json"):
            load_checkpoint(folder / "model.safetensors")

    def test_the_target_encoder_that_it_does_not_have(self, folder: Path) -> None:
        with pytest.raises(CheckpointError, match="holds no target encoder"):
            load_checkpoint(folder, which="target")


class TestWhatTheCallerSays:
    """Heads and image size."""

    def test_other_heads_than_the_config_are_refused(self, folder: Path) -> None:
        assert load_checkpoint(folder, heads=3).architecture.heads == 3
        with pytest.raises(CheckpointError, match="says 3 heads, but 4 were asked for"):
            load_checkpoint(folder, heads=4)

    def test_another_image_size_only_when_asked_for(self, folder: Path) -> None:
        with pytest.raises(
            CheckpointError, match=r"trained at image size 6x32x32, but 8x32x48 .* say --interpolate to "
        ):
            load_checkpoint(folder, image_size=(8, 32, 48))
        own, wide = load_checkpoint(folder), load_checkpoint(folder, image_size=(8, 32, 48), interpolate=True)
        assert wide.architecture.grid == (4, 4, 6)
        assert wide.facts["interpolated_from"] == [6, 32, 32]
        assert wide.weights_sha256 == own.weights_sha256, "no tensor changes; the space differs by its image size"
        assert wide.module(torch.zeros(1, 1, 8, 32, 48))["last"].shape == (1, 96, 48)

    def test_another_square_is_what_the_reference_computes_with_another_crop(self, folder: Path) -> None:
        volume = torch.from_numpy(np.random.default_rng(6).normal(size=(1, 1, 4, 48, 48)).astype(np.float32))
        asked = load_checkpoint(folder, image_size=(4, 48, 48), interpolate=True)
        change_config(folder, crop_size=48, frames_per_clip=4)
        assert torch.equal(asked.module(volume)["last"], load_checkpoint(folder).module(volume)["last"])

    def test_a_size_that_is_no_multiple_of_the_patch(self, folder: Path) -> None:
        with pytest.raises(CheckpointError, match="multiples of the patch 2x8x8"):
            load_checkpoint(folder, image_size=(6, 36, 32), interpolate=True)


class TestExport:
    """As .safetensors, which is what we write."""

    @pytest.mark.parametrize("wishes", [{}, {"image_size": (4, 48, 32), "interpolate": True}])
    def test_is_read_back_without_a_word_from_the_caller(
        self, folder: Path, tmp_path: Path, wishes: dict[str, Any]
    ) -> None:
        encoder = load_checkpoint(folder, **wishes)
        export_safetensors(encoder, tmp_path / "encoder.safetensors")
        again = load_checkpoint(tmp_path / "encoder.safetensors")
        assert (again.weights_sha256, again.architecture) == (encoder.weights_sha256, encoder.architecture)
        volume = torch.ones(1, 1, *encoder.architecture.image_size)
        assert torch.equal(again.module(volume)["last"], encoder.module(volume)["last"])

    def test_an_unknown_family_is_refused(self, folder: Path, tmp_path: Path) -> None:
        state = load_checkpoint(folder).module.state_dict()
        save_file(state, tmp_path / "future.safetensors", metadata={"family": "vjepa3"})
        with pytest.raises(CheckpointError, match=r"expected an encoder of family vjepa3d, vjepa1, .*, got 'vjepa3'"):
            load_checkpoint(tmp_path / "future.safetensors")

    def test_a_family_without_its_sizes_is_refused(self, folder: Path, tmp_path: Path) -> None:
        state = as_hugging_face(load_checkpoint(folder).module.state_dict())
        save_file(state, tmp_path / "silent.safetensors", metadata={"family": "vjepa2", "num_heads": "3"})
        with pytest.raises(CheckpointError, match="does not say the image size"):
            load_checkpoint(tmp_path / "silent.safetensors")


class TestCommands:
    """The folder is a --checkpoint like any other."""

    @pytest.fixture
    def bucket(self, tmp_path: Path, command: Command) -> Path:
        made = command(
            *("oct-phantom", "--out", tmp_path / "bucket", "--participants", 1),
            *("--devices", "topcon_maestro2", "--scale", "0.06", "--seed", 1),
        )
        assert made.code == 0, made.stderr
        return tmp_path / "bucket"

    def test_encode_a_phantom(self, bucket: Path, folder: Path, tmp_path: Path, command: Command) -> None:
        scan = sorted(bucket.rglob("*.dcm"))[0]
        line = ["extract-embeddings", "encode", scan, "--checkpoint", folder, "--out", tmp_path / "tokens.npy"]
        own = command(*line)
        assert own.code == 0, own.stderr
        assert "is not the encoder's own" not in own.stderr
        done = command(*line, "--preset", "pretrain")
        assert done.code == 0, done.stderr
        assert "preset pretrain is not the encoder's own: vjepa2 goes with vjepa2" in done.stderr
        tokens = np.load(tmp_path / "tokens.npy")
        assert (tokens.dtype, tokens.shape) == (np.float32, (1, 48, 48))

    def test_extract_embeddings(self, bucket: Path, folder: Path, tmp_path: Path, command: Command) -> None:
        line = ["extract-embeddings", "--bucket", bucket, "--store", tmp_path / "store", "--checkpoint", folder]
        done = command(*line, "--layers", "1,last", "--json", "--preset", "pretrain")
        assert done.code == 0, done.stderr
        (note,) = done.json["notes"]
        assert "preset pretrain is not the encoder's own: vjepa2 goes with vjepa2" in note
        assert note in done.stderr
        assert done.json["committed"] == done.json["selected"] > 0
        attributes = json.loads((tmp_path / "store" / "zarr.json").read_text())["attributes"]
        assert '"vjepa2"' in json.dumps(attributes)
        own = command(*line[:3], "--store", tmp_path / "own", "--checkpoint", folder, "--json")
        assert own.code == 0, own.stderr
        assert own.json["notes"] == []
        attributes = json.loads((tmp_path / "own" / "zarr.json").read_text())["attributes"]
        assert '"name": "vjepa2"' in json.dumps(attributes)

    def test_another_folder_ends_the_run(self, bucket: Path, tmp_path: Path, command: Command) -> None:
        done = command("extract-embeddings", "--bucket", bucket, "--store", tmp_path / "store", "--checkpoint", bucket)
        assert done.code == 1
        assert "is a directory without config.json" in done.stderr
        assert not (tmp_path / "store").exists()
