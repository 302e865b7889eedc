"""The numbers are right in any clone: encoder and preprocessing against a small file that NumPy made (parity.npz)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy_encoder import HEADS, IMAGE, PARITY, encode, make_parity
from numpy_encoder import preprocess as numpy_preprocess

import octprobe
from extract.encode import build_space
from extract.preset import PRESETS


@pytest.fixture(scope="module")
def parity() -> dict[str, np.ndarray]:
    with np.load(PARITY, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def checkpoint(parity: dict[str, np.ndarray], tmp_path: Path) -> Path:
    weights = {f"context_encoder.{name[8:]}": torch.from_numpy(parity[name]) for name in parity if "weights/" in name}
    config = {"image_size": list(IMAGE), "num_heads": HEADS}
    torch.save({"epoch": 9, "step": 90, "loss": 0.2, "config": config, "model_state_dict": weights}, tmp_path / "t.pt")
    return tmp_path / "t.pt"


def test_the_file_is_small_and_what_numpy_computes(parity: dict[str, np.ndarray]) -> None:
    assert PARITY.stat().st_size < 1_000_000
    again = make_parity()
    assert parity.keys() == again.keys()
    for name, array in again.items():
        np.testing.assert_allclose(parity[name], array, rtol=0, atol=1e-12, err_msg=name)


def test_a_scan_becomes_the_input_and_its_tokens(
    parity: dict[str, np.ndarray], checkpoint: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "scan.npy", parity["voxels"])
    image = octprobe.preprocess(tmp_path / "scan.npy", image_size=IMAGE, axes="frames,rows,columns")
    np.testing.assert_allclose(image[0], parity["image"], rtol=0, atol=1e-5)
    encoder = octprobe.load_encoder(checkpoint)
    tokens = octprobe.encode(parity["image"].astype(np.float32)[None], encoder, device="cpu")
    np.testing.assert_allclose(tokens[0], parity["tokens"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(octprobe.encode(image, encoder, device="cpu")[0], parity["tokens"], rtol=0, atol=1e-4)


def test_the_space_of_these_weights_keeps_its_id_from_version_to_version(checkpoint: Path) -> None:
    encoder, preset = octprobe.load_encoder(checkpoint), PRESETS["pretrain"].to_dict()
    made = build_space(encoder, preset, layers=("last",), pools=("mean",), token_grid=None, precision="fp32")
    assert made.id == "611d96f7fcd71044"


def test_numpy_says_what_the_training_program_says(reference: Path) -> None:
    from safetensors.numpy import load_file

    folder = reference / "vjepa3d_tiny"
    weights = {name: array.astype(np.float64) for name, array in load_file(folder / "weights.safetensors").items()}
    volumes, expected = np.load(folder / "input.npy"), np.load(folder / "expected_tokens_float64.npy")
    for volume, tokens in zip(volumes, expected, strict=True):
        np.testing.assert_allclose(encode(volume[0].astype(np.float64), weights, 4), tokens, rtol=0, atol=1e-9)
    raw = np.load(reference / "preprocess/raw_a.npy")
    wanted = np.load(reference / "preprocess/pretrain_a_8x40x40.npy")
    # torch, which made these, works out places in float32
    np.testing.assert_allclose(numpy_preprocess(raw, (8, 40, 40)), wanted.reshape(8, 40, 40), rtol=0, atol=5e-5)
