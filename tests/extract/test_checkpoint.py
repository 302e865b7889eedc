"""Every kind of checkpoint file, good, broken and hostile: what loads, what is refused, and that nothing ever runs."""

import json
import os
import struct
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from extract.encoder.architecture import Architecture
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.positions import interpolate_positions
from extract.encoder.safetensors_file import export_safetensors
from extract.errors import CheckpointError

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
NESTED, TINY, DOSE = FIXTURES / "vjepa3d_nested", FIXTURES / "vjepa3d_tiny", FIXTURES / "vjepa3d_dose"
SIZE = (16, 64, 64)

REFUSALS = {
    "config_contradicts.pt": "9216 rows of pos_embed, but the table has 64",
    "missing_key.pt": "tensor blocks.1.attn.qkv.bias is missing",
    "no_encoder.pt": "holds no context encoder",
    "target_only.pt": "holds no context encoder",
    "nan_weight.pt": "blocks.0.mlp.fc1.weight: expected finite numbers, got 1 NaN",
    "truncated.pt": "damaged or cut-off",
    "bitflip.pt": "Bad CRC-32",
    "garbage.pt": "is no checkpoint",
    "empty.pt": "0 bytes",
    "malicious.pt": "holds no context encoder",
    "malicious_legacy.pkl": "bare pickle",
}
LOADS = (
    "trainer_full.pt",
    "trainer_full_xla.pt",
    "module_prefix.pt",
    "orig_mod_prefix.pt",
    "state_dict_key.pt",
    "bare_encoder.pt",
    "config_plain.pt",
    "bf16.pt",
    "malicious_in_config.pt",
)

pytestmark = pytest.mark.skipif(not NESTED.is_dir(), reason="the shared fixtures are not here")


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Work in an empty folder, where the hostile files would leave a file named PWNED."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert not (folder / "PWNED").exists(), "code from a checkpoint was run"


def index() -> dict[str, Any]:
    files: dict[str, Any] = json.loads((NESTED / "index.json").read_text())["files"]
    return files


def caller_says(name: str) -> dict[str, Any]:
    from_config = index()[name].get("heads_from") == "config" or name == "malicious_in_config.pt"
    return {} if from_config else {"heads": 3, "image_size": SIZE}


def tokens(encoder: Encoder, name: str = "input.npy") -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = encoder.module(torch.from_numpy(np.load(NESTED / name).astype(np.float32)))["last"].numpy()
    return found


def deviation(encoder: Encoder, expected: str) -> float:
    return float(np.abs(tokens(encoder) - np.load(NESTED / expected)).max())


def test_the_lists_below_cover_the_whole_index() -> None:
    assert {*REFUSALS, *LOADS} == {*index()}
    assert len(index()) == 20


@pytest.mark.parametrize("name", LOADS)
def test_loads_the_context_encoder(name: str) -> None:
    expected = index()[name].get("tokens", "expected_tokens.npy")
    assert deviation(load_checkpoint(NESTED / name, **caller_says(name)), expected) <= 2e-5


@pytest.mark.parametrize("name", REFUSALS)
def test_refuses_with_a_reason(name: str) -> None:
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(NESTED / name, **caller_says(name))
    assert REFUSALS[name] in str(refusal.value)
    assert name in str(refusal.value)


@pytest.mark.parametrize("name", ["target_only.pt", "trainer_full.pt", "module_prefix.pt"])
def test_the_target_encoder_comes_on_request(name: str) -> None:
    encoder = load_checkpoint(NESTED / name, which="target", **caller_says(name))
    assert deviation(encoder, "expected_target_tokens.npy") <= 2e-5


def test_a_bare_encoder_is_never_called_the_target() -> None:
    with pytest.raises(CheckpointError, match="holds no target encoder"):
        load_checkpoint(NESTED / "bare_encoder.pt", heads=3, image_size=SIZE, which="target")


def test_the_encoder_only_reads() -> None:
    encoder = load_checkpoint(NESTED / "bf16.pt")
    assert not encoder.module.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in encoder.module.parameters())


def test_the_digest_names_the_weights_and_not_the_file() -> None:
    same = ["trainer_full.pt", "trainer_full_xla.pt", "bare_encoder.pt", "weights.safetensors"]
    digests = {load_checkpoint(NESTED / name, heads=3, image_size=SIZE).weights_sha256 for name in same}
    assert len(digests) == 1
    others = {load_checkpoint(NESTED / name, heads=3).weights_sha256 for name in ("bf16.pt",)}
    others.add(load_checkpoint(NESTED / "trainer_full.pt", which="target").weights_sha256)
    assert len(others | digests) == 3


def test_facts_of_training() -> None:
    assert load_checkpoint(TINY / "checkpoint.pt").facts == {
        "epoch": 4,
        "step": 64,
        "loss": 0.0,
        "scheduler_last_epoch": 4,
        "optimizer_steps": 4.0,
    }
    assert load_checkpoint(DOSE / "barely_trained.pt").facts["scheduler_last_epoch"] == 16
    assert load_checkpoint(DOSE / "moved.pt").facts["epoch"] == 149
    assert load_checkpoint(NESTED / "malicious_in_config.pt").facts["foreign_globals"] == ["io.open"]


@pytest.mark.parametrize(
    ("name", "says", "message"),
    [
        ("bare_encoder.pt", {"image_size": SIZE}, "does not say how many attention heads .* --num-heads N"),
        ("bare_encoder.pt", {"heads": 3}, "does not say the image size.* --image-size"),
        ("bare_encoder.pt", {"heads": 5, "image_size": SIZE}, "5 heads: expected a number that divides the width 12"),
        ("bare_encoder.pt", {"heads": 3, "image_size": (64, 384, 384)}, "the caller says .* needs 9216 rows .* has 64"),
        ("trainer_full.pt", {"heads": 12}, "says 3 heads, but 12 were asked for"),
        ("weights.safetensors", {"heads": 4, "image_size": SIZE}, "says 3 heads, but 4 were asked for"),
        (
            "trainer_full.pt",
            {"image_size": (16, 96, 96)},
            "trained at image size 16x64x64, but 16x96x96 .*--interpolate",
        ),
        ("trainer_full.pt", {"image_size": (16, 90, 96), "interpolate": True}, "multiples of the patch 4x16x16"),
    ],
)
def test_what_shapes_cannot_tell_is_never_guessed(name: str, says: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(NESTED / name, **says)


def test_a_grid_of_the_same_token_count_is_the_callers_word_only_where_the_file_is_silent() -> None:
    assert load_checkpoint(NESTED / "bare_encoder.pt", heads=3, image_size=(4, 128, 128)).architecture.grid == (1, 8, 8)
    with pytest.raises(CheckpointError, match="trained at image size 16x64x64"):
        load_checkpoint(NESTED / "trainer_full.pt", image_size=(4, 128, 128))


def test_interpolates_only_when_asked() -> None:
    encoder = load_checkpoint(NESTED / "trainer_full.pt", image_size=(16, 96, 96), interpolate=True)
    table = encoder.module.pos_embed.reshape(np.load(NESTED / "interp_pos_embed.npy").shape).numpy()
    assert np.abs(table - np.load(NESTED / "interp_pos_embed.npy")).max() <= 1e-6
    ours = tokens(encoder, "interp_input_float16.npy")
    assert np.abs(ours - np.load(NESTED / "interp_expected_tokens.npy")).max() <= 2e-5
    assert encoder.facts["interpolated_from"] == [16, 64, 64]
    assert encoder.weights_sha256 != load_checkpoint(NESTED / "trainer_full.pt").weights_sha256


def test_interpolating_to_the_own_grid_changes_nothing() -> None:
    table = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 24, 5)))
    assert torch.equal(interpolate_positions(table, (2, 3, 4), (2, 3, 4)), table)


def test_export_is_read_back_without_a_word_from_the_caller(tmp_path: Path) -> None:
    encoder = load_checkpoint(NESTED / "bare_encoder.pt", heads=3, image_size=SIZE)
    export_safetensors(encoder, tmp_path / "encoder.safetensors")
    again = load_checkpoint(tmp_path / "encoder.safetensors")
    assert (again.weights_sha256, again.architecture) == (encoder.weights_sha256, encoder.architecture)
    assert np.array_equal(tokens(again), tokens(encoder))
    assert [path.name for path in tmp_path.glob("*encoder*")] == ["encoder.safetensors"]


class TestOtherFiles:
    """What users point to by mistake."""

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="does not exist"):
            load_checkpoint(tmp_path / "nothing.pt")

    def test_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="is a directory"):
            load_checkpoint(tmp_path)

    def test_a_zip_of_something_else(self, tmp_path: Path) -> None:
        with ZipFile(tmp_path / "papers.zip", "w") as archive:
            archive.writestr("paper.txt", "words")
        with pytest.raises(CheckpointError, match=r"expected one data\.pkl"):
            load_checkpoint(tmp_path / "papers.zip")

    def test_a_2d_model(self, tmp_path: Path) -> None:
        weights = load_file(NESTED / "weights.safetensors")
        weights["patch_embed.proj.weight"] = torch.zeros(12, 3, 16, 16)
        save_file(weights, tmp_path / "flat.safetensors")
        with pytest.raises(CheckpointError, match="a 2D model"):
            load_checkpoint(tmp_path / "flat.safetensors", heads=3, image_size=SIZE)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"blocks.0.ls1.gamma": torch.ones(12)}, r"unexpected tensor blocks\.0\.ls1\.gamma"),
            ({"cls_token": torch.ones(1, 1, 12)}, "unexpected tensor cls_token"),
            ({"blocks.1.norm2.bias": torch.ones(13)}, r"blocks\.1\.norm2\.bias: expected shape 12, got 13"),
            ({"pos_embed": torch.ones(64, 12)}, "pos_embed: expected shape 1xanyx12, got 64x12"),
            ({"patch_embed.proj.weight": torch.ones(12, 3, 4, 16, 16)}, "one grey channel, got 3"),
            ({"norm.weight": torch.ones(12, dtype=torch.int8)}, r"norm\.weight: expected floating-point"),
            ({"module.norm.weight": torch.ones(12)}, "are both the tensor norm.weight"),
            ({"blocks.7.norm1.weight": torch.ones(12)}, "is missing"),
        ],
    )
    def test_a_changed_tensor_is_named(self, tmp_path: Path, change: dict[str, torch.Tensor], message: str) -> None:
        torch.save(load_file(NESTED / "weights.safetensors") | change, tmp_path / "changed.pt")
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / "changed.pt", family="vjepa3d", heads=3, image_size=SIZE)

    def test_a_whole_pickled_module(self, tmp_path: Path) -> None:
        torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
        with pytest.raises(
            CheckpointError, match=r"expected a dict of tensors, got torch\.nn\.modules\.linear\.Linear"
        ):
            load_checkpoint(tmp_path / "module.pt")

    def test_a_cut_off_safetensors_file(self, tmp_path: Path) -> None:
        data = (NESTED / "weights.safetensors").read_bytes()
        (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
        with pytest.raises(CheckpointError, match=r"damaged \.safetensors"):
            load_checkpoint(tmp_path / "cut.safetensors", heads=3, image_size=SIZE)

    def test_an_export_with_one_flipped_bit(self, tmp_path: Path) -> None:
        path = tmp_path / "encoder.safetensors"
        export_safetensors(load_checkpoint(NESTED / "config_plain.pt"), path)
        data = bytearray(path.read_bytes())
        data[-9] ^= 1
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="says its weights have the sha256"):
            load_checkpoint(path)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_any_damage_is_refused_or_harmless(self, tmp_path: Path, data: st.DataObject) -> None:
        whole = (NESTED / "config_plain.pt").read_bytes()
        ends = st.integers(0, 9000) | st.integers(len(whole) - 9000, len(whole) - 1)
        damaged = bytearray(whole)
        for at in data.draw(st.lists(ends, min_size=1, max_size=4)):
            damaged[at] = data.draw(st.integers(0, 255))
        (tmp_path / "damaged.pt").write_bytes(damaged)
        try:
            found = load_checkpoint(tmp_path / "damaged.pt", heads=3)
        except CheckpointError:
            return
        assert found.weights_sha256 == load_checkpoint(NESTED / "config_plain.pt").weights_sha256

    def test_a_config_that_contradicts_the_tensors(self, tmp_path: Path) -> None:
        config = {"image_size": [16, 64, 64], "patch_size": [2, 16, 16], "num_heads": 3}
        torch.save({"model": load_file(NESTED / "weights.safetensors"), "config": config}, tmp_path / "patch.pt")
        with pytest.raises(CheckpointError, match=r"patch_size \(2, 16, 16\), but its tensors have \(4, 16, 16\)"):
            load_checkpoint(tmp_path / "patch.pt")

    def test_a_tensor_beyond_its_record_is_refused(self, tmp_path: Path) -> None:
        weights = load_file(NESTED / "weights.safetensors")
        torch.save(weights, tmp_path / "good.pt")
        with ZipFile(tmp_path / "good.pt") as good, ZipFile(tmp_path / "short.pt", "w") as short:
            for record in good.namelist():
                data = good.read(record)
                short.writestr(record, data[:-4] if record.endswith("/data/0") else data)
        with pytest.raises(CheckpointError, match="expected a record of"):
            load_checkpoint(tmp_path / "short.pt", heads=3, image_size=SIZE)

    @pytest.mark.parametrize("prefix", ["ddp.", "network.module.", "_forward_module.model."])
    def test_what_wrappers_call_the_model_is_left_out(self, tmp_path: Path, prefix: str) -> None:
        weights = load_file(NESTED / "weights.safetensors")
        torch.save({f"{prefix}{name}": tensor for name, tensor in weights.items()}, tmp_path / "wrapped.pt")
        found = load_checkpoint(tmp_path / "wrapped.pt", heads=3, image_size=SIZE)
        assert deviation(found, "expected_tokens.npy") <= 2e-5

    @pytest.mark.parametrize(
        "unneeded",
        [
            torch.ones(3, dtype=torch.complex64),
            torch.ones(3).to(torch.float8_e4m3fn),
            torch.ones(3, dtype=torch.uint16),
            torch.eye(3).to_sparse(),
        ],
        ids=["complex", "float8", "uint16", "sparse"],
    )
    def test_tensors_of_any_kind_may_lie_beside_the_encoder(self, tmp_path: Path, unneeded: torch.Tensor) -> None:
        weights = load_file(NESTED / "weights.safetensors")
        torch.save({"model": weights, "optimizer": {"moment": unneeded}, "epoch": 7}, tmp_path / "other.pt")
        assert load_checkpoint(tmp_path / "other.pt", heads=3, image_size=SIZE).facts == {"epoch": 7}
        torch.save({"model": weights | {"norm.bias": unneeded}}, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match=r"norm\.bias"):
            load_checkpoint(tmp_path / "other.pt", heads=3, image_size=SIZE)

    def test_a_few_numbers_are_not_blown_up_to_a_large_model(self, tmp_path: Path) -> None:
        width, one = 1 << 18, torch.ones(1)  # a width of which one matrix alone would be 825 GB
        sizes = {12: width, 36: 3 * width, 48: 4 * width}
        shapes = {name: tensor.shape for name, tensor in load_file(NESTED / "weights.safetensors").items()}
        torch.save({name: one.expand([sizes.get(n, n) for n in shape]) for name, shape in shapes.items()},
                   tmp_path / "blown.pt")  # fmt: skip
        with pytest.raises(CheckpointError, match="repeats its numbers"):
            load_checkpoint(tmp_path / "blown.pt", heads=2, image_size=SIZE)

    def test_names_of_the_file_are_printed_short_and_on_one_line(self, tmp_path: Path) -> None:
        torch.save({"k" * 10_000: 1, "a\nb\x1b[31m": 2}, tmp_path / "odd.pt")
        with pytest.raises(CheckpointError) as refused:
            load_checkpoint(tmp_path / "odd.pt", heads=3, image_size=SIZE)
        assert len(str(refused.value)) < 1000
        assert str(refused.value).isprintable()

    def test_parameters_halves_and_views_are_read_too(self, tmp_path: Path) -> None:
        weights = load_file(NESTED / "weights.safetensors")
        odd: dict[str, Any] = {name: torch.nn.Parameter(tensor) for name, tensor in weights.items()}
        odd["norm.weight"] = torch.stack([weights["norm.weight"]] * 2, dim=1)[:, 1]
        odd["norm.bias"] = weights["norm.bias"].double()
        torch.save(odd, tmp_path / "odd.pt")
        assert deviation(load_checkpoint(tmp_path / "odd.pt", heads=3, image_size=SIZE), "expected_tokens.npy") <= 2e-5


class TestOptimizerMoments:
    """A trainer's file is mostly optimizer state, which nobody needs here."""

    moment_bytes = 32 * 2**20

    @pytest.fixture
    def heavy(self, tmp_path: Path) -> Path:
        state = {0: {"step": torch.tensor(7.0), "exp_avg": torch.full((self.moment_bytes // 4,), 0.5)}}
        weights = load_file(NESTED / "weights.safetensors")
        record = {"model_state_dict": weights, "optimizer_state_dict": {"state": state}, "epoch": 1}
        torch.save(record, tmp_path / "heavy.pt")
        return tmp_path / "heavy.pt"

    @pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="bytes read are counted by Linux only")
    def test_are_never_read(self, heavy: Path) -> None:
        before = bytes_read()
        load_checkpoint(heavy, heads=3, image_size=SIZE)
        assert bytes_read() - before < 2 * 2**20
        assert os.path.getsize(heavy) > self.moment_bytes  # noqa: PTH202 - plain size

    def test_may_be_damaged_without_harm(self, heavy: Path) -> None:
        data = bytearray(heavy.read_bytes())
        middle = data.index(struct.pack("<f", 0.5) * 1000) + 4000
        data[middle : middle + 4] = b"XXXX"
        heavy.write_bytes(data)
        assert load_checkpoint(heavy, heads=3, image_size=SIZE).facts["optimizer_steps"] == 7.0


def bytes_read() -> int:
    line = Path("/proc/self/io").read_text().splitlines()[0]
    return int(line.removeprefix("rchar: "))


def test_tensor_shapes_are_those_of_the_fixture() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(NESTED / "weights.safetensors").items()}
    assert Architecture("vjepa3d", (16, 64, 64), (4, 16, 16), 12, 2, 3, 48).tensor_shapes == shapes
