"""Files that would keep a reader for ever, or end it: one line each, within seconds."""

import json
import os
import pickle
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from embeddings_store.errors import UsageError
from extract.encoder.checkpoint import load_checkpoint
from extract.errors import CheckpointError
from extract.file_options import EncodeOptions, PreprocessOptions
from extract.preset import load_preset
from extract.single import encode_file, preprocess_file

SIZE = (16, 64, 64)
CALLER: dict[str, Any] = {"heads": 3, "image_size": SIZE}
DEEP_JSON = b'{"model_type":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.fixture
def weights(reference: Path) -> dict[str, Tensor]:
    return load_file(reference / "vjepa3d_nested" / "weights.safetensors")


def refusal(path: Path, **says: Any) -> str:
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(path, **says)
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 1500
    return text


def archive(path: Path, data: bytes) -> Path:
    with ZipFile(path, "w") as made:
        made.writestr("archive/data.pkl", data)
    return path


class TestNoPlainFile:
    @pytest.fixture
    def fifo(self, tmp_path: Path) -> Path:
        os.mkfifo(tmp_path / "a.pt")
        return tmp_path / "a.pt"

    def test_a_pipe(self, fifo: Path) -> None:
        assert "expected a plain file, got a pipe, socket or device" in refusal(fifo)

    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
    def test_a_device(self, device: str) -> None:
        assert "cannot be read" in refusal(Path(device))

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_pipe_in_a_folder(self, tmp_path: Path, reference: Path, name: str) -> None:
        for own in ("config.json", "model.safetensors"):
            (tmp_path / own).write_bytes((reference / "vjepa2_hf" / own).read_bytes())
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        assert name in refusal(tmp_path)

    def test_as_a_scan_an_array_or_a_preset(self, fifo: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read: expected a plain file"):
            preprocess_file(PreprocessOptions(file=fifo, out=tmp_path / "x.npy"))
        for name in ("a.npy", "a.yaml"):
            os.mkfifo(tmp_path / name)
        with pytest.raises(UsageError, match="got a pipe"):
            encode_file(EncodeOptions(file=tmp_path / "a.npy", out=tmp_path / "x.npy", encoder="random:tiny"))
        with pytest.raises(UsageError, match="got a pipe"):
            load_preset(str(tmp_path / "a.yaml"))

    def test_an_empty_array(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(b"")
        with pytest.raises(UsageError, match=r"expected a \.npy array"):
            encode_file(EncodeOptions(file=tmp_path / "a.npy", out=tmp_path / "x.npy", encoder="random:tiny"))


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path, reference: Path) -> Path:
        for own in ("config.json", "model.safetensors"):
            (tmp_path / own).write_bytes((reference / "vjepa2_hf" / own).read_bytes())
        return tmp_path

    @pytest.mark.parametrize(
        "config", [DEEP_JSON, b"[" * 100_000, b'{"hidden_size": ' + b"9" * 5000 + b"}"], ids=["deep", "open", "digits"]
    )
    def test_a_config_without_end(self, folder: Path, config: bytes) -> None:
        (folder / "config.json").write_bytes(config)
        assert "config.json" in refusal(folder)

    @pytest.mark.parametrize("value", [10**4000, "x" * 100_000, [[0] * 1000] * 1000, {"a": "\x1b[2J\n"}, -1, True])
    @pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "mlp_ratio", "hidden_act", "model_type"])
    def test_a_field_that_is_no_number_or_word(self, folder: Path, field: str, value: object) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {field: value}))
        assert f"config.json: {field}: expected" in refusal(folder)


class TestArchives:
    def test_numbers_of_five_thousand_digits_are_no_facts(self, tmp_path: Path, weights: dict[str, Tensor]) -> None:
        long = 10**4999
        config = {"num_heads": long, "image_size": [long] * 3, "depth": -long}
        state = {"epoch": long, "loss": -long, "global_step": 3, "config": config}
        torch.save({"model": weights, **state}, tmp_path / "long.pt")
        encoder = load_checkpoint(tmp_path / "long.pt", **CALLER)
        assert encoder.facts == {"step": 3}
        assert "--num-heads" in refusal(tmp_path / "long.pt", image_size=SIZE)

    def test_names_of_blocks_with_five_thousand_digits(self, tmp_path: Path, weights: dict[str, Tensor]) -> None:
        for number in ("9" * 5000, "999999999", "٣"):
            name = f"blocks.{number}.norm1.weight"
            torch.save(weights | {name: torch.ones(12)}, tmp_path / "long.pt")
            assert "unexpected tensor blocks." in refusal(tmp_path / "long.pt", **CALLER)

    def test_metadata_of_five_thousand_digits(self, tmp_path: Path, weights: dict[str, Tensor]) -> None:
        digits = "1" * 5000
        metadata = {"num_heads": digits, "image_size": ",".join([digits] * 3), "patch_size": "4,16,16"}
        save_file(weights, tmp_path / "long.safetensors", metadata=metadata)
        assert load_checkpoint(tmp_path / "long.safetensors", **CALLER).architecture.heads == 3

    def test_names_of_foreign_code_are_printed_short(self, tmp_path: Path) -> None:
        name = b"c" + b"m" * 100_000 + b"\n\x1b[2Jx\n)R."
        assert "expected a dict of tensors, got mmm" in refusal(archive(tmp_path / "a.pt", b"\x80\x02" + name))

    def test_a_pickle_of_many_megabytes_is_not_begun(self, tmp_path: Path) -> None:
        data = pickle.dumps(["x" * 1000] + [b"y" * 1000] * 1000 + list(range(5_000_000)), 2)
        assert "data.pkl: expected at most 16,777,216 bytes" in refusal(archive(tmp_path / "a.pt", data))

    @pytest.mark.parametrize(
        "value", [b"K\x01" + b"q\x00h\x00\x86" * 200, b"K\x01" + b"\x85" * 100_000], ids=["shared", "deep"]
    )
    @pytest.mark.parametrize("key", ["model", "epoch", "config", "optimizer_state_dict", "state_dict"])
    def test_deep_values_under_every_key(self, tmp_path: Path, key: str, value: bytes) -> None:
        named = b"X" + len(key).to_bytes(4, "little") + key.encode()
        assert "holds no context encoder" in refusal(
            archive(tmp_path / "a.pt", b"\x80\x02}" + named + value + b"s."), **CALLER
        )

    def test_an_array_file_that_asks_for_all_memory(self, tmp_path: Path) -> None:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 9999999, 9999999, 9999999)}\n"
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        with pytest.raises(UsageError, match=r"expected a \.npy array"):
            encode_file(EncodeOptions(file=tmp_path / "a.npy", out=tmp_path / "x.npy", encoder="random:tiny"))
        assert not list(np.atleast_1d(list(tmp_path.glob("*x.npy*"))))
