"""torch_xla: one program a run, nothing computed on the host, and the numbers of the eager CPU.

Runs where torch_xla is installed (make test-xla), on XLA's CPU device unless PJRT_DEVICE says otherwise.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from backend_contract import BackendContract
from command_line import Command
from small_encoders import small_encoder_of

from extract.device.backend import Backend
from extract.device.cpu import CpuBackend
from extract.device.select import open_device
from extract.device.xla import cache_folder
from extract.device.xla_attention import attend_in_chunks
from extract.encode import BatchEncoder
from extract.encoder.attention import fused_attention
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.families import FAMILIES
from extract.encoder.random_init import random_encoder

pytestmark = [
    pytest.mark.xla,
    pytest.mark.skipif(find_spec("torch_xla") is None, reason="torch_xla is not installed here; make test-xla has it"),
]

IMAGE_SIZE = (16, 64, 64)
KEPT = {"layers": ("2", "last"), "pools": ("mean", "max", "std"), "token_grid": (2, 2, 2)}


class TestXla(BackendContract):
    def open(self) -> Backend:
        return open_device("xla", self.precision)


class TestXlaBf16(TestXla):
    precision = "bf16"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return random_encoder("random:tiny", IMAGE_SIZE)


def volumes(count: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 1, *IMAGE_SIZE)).astype(np.float32)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_five_batches_with_a_short_last_one_are_one_program(encoder: Encoder, precision: str) -> None:
    backend = open_device("xla", precision)
    batches = BatchEncoder(encoder, backend, batch_size=3, **KEPT)
    compiled = [backend.compilations()]
    for seed, count in enumerate((3, 3, 3, 3, 2)):
        assert len(batches.encode(volumes(count, seed)).pooled) == count
        compiled.append(backend.compilations())
    assert compiled == [0, 1, 1, 1, 1, 1]
    assert backend.fallbacks() == {}


def test_an_operator_that_falls_back_would_be_counted() -> None:
    backend = open_device("xla")
    backend.place(np.eye(3, dtype=np.float32)).geqrf()
    assert backend.fallbacks() == {"aten::geqrf": 1}
    assert open_device("xla").fallbacks() == {}


def test_numbers_of_the_eager_cpu_in_fp32(encoder: Encoder) -> None:
    found, expected = (
        BatchEncoder(encoder, backend, batch_size=3, **KEPT).encode(volumes(3))
        for backend in (open_device("xla"), CpuBackend("fp32"))
    )
    np.testing.assert_allclose(found.pooled, expected.pooled, atol=2e-5, rtol=0)
    for layer in KEPT["layers"]:
        np.testing.assert_allclose(found.tokens[layer], expected.tokens[layer], atol=2e-3, rtol=0)  # stored as float16


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_one_program_with_the_numbers_of_the_eager_cpu(family: str) -> None:
    encoder, backend = small_encoder_of(family), open_device("xla")
    batches = BatchEncoder(encoder, backend, batch_size=2)
    images = np.random.default_rng(5).normal(size=(4, 1, *encoder.architecture.image_size)).astype(np.float32)
    found = np.concatenate([batches.tokens(images[:2]), batches.tokens(images[2:])])
    assert backend.compilations() <= 1  # 0 where a family before this one has the same program
    assert backend.fallbacks() == {}
    expected = BatchEncoder(encoder, CpuBackend("fp32"), batch_size=4).tokens(images)
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=0)


def test_tokens_of_the_fixture_in_fp32(reference: Path) -> None:
    folder = reference / "vjepa3d_tiny"
    batches = BatchEncoder(load_checkpoint(folder / "checkpoint.pt"), open_device("xla"), batch_size=2)
    found = batches.tokens(np.load(folder / "input.npy"))
    np.testing.assert_allclose(found, np.load(folder / "expected_tokens.npy"), atol=2e-5, rtol=0)


def test_pooled_vectors_in_bf16_point_the_same_way(encoder: Encoder) -> None:
    found, expected = (
        BatchEncoder(encoder, backend, batch_size=3, **KEPT).encode(volumes(3)).pooled
        for backend in (open_device("xla", "bf16"), CpuBackend("fp32"))
    )
    assert not np.array_equal(found, expected)
    assert cosines(found, expected).min() >= 0.999


def test_results_may_be_collected_one_step_late(encoder: Encoder) -> None:
    backend = open_device("xla")
    batches = BatchEncoder(encoder, backend, batch_size=2, **KEPT)
    first, second = batches.submit(volumes(2, 1)), batches.submit(volumes(1, 2))
    for late, count, seed in ((batches.collect(first), 2, 1), (batches.collect(second), 1, 2)):
        np.testing.assert_array_equal(late.pooled, batches.encode(volumes(count, seed)).pooled)
    assert backend.compilations() <= 1  # 0 where a test before this one compiled the same program


def test_the_encoder_gets_the_attention_of_the_device(encoder: Encoder) -> None:
    prepared = open_device("xla").prepare(encoder.module)
    assert {block.attn.attend for block in prepared.blocks} == {attend_in_chunks}
    assert {block.attn.attend for block in encoder.module.blocks} == {fused_attention}


def test_float32_is_multiplied_as_float32() -> None:
    open_device("xla", "fp32")
    from torch_xla.backends import get_mat_mul_precision

    assert get_mat_mul_precision() == "highest"


def test_every_process_keeps_its_programs_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = {cache_folder(0), cache_folder(1)}
    monkeypatch.setenv("TPU_VISIBLE_CHIPS", "2,3")
    folders.add(cache_folder(0))
    assert len(folders) == 3
    assert all(folder.is_dir() and folder.is_relative_to(tmp_path / "octprobe") for folder in folders)


def test_says_what_it_runs_on() -> None:
    assert "torch_xla 2.9" in open_device("xla").description
    assert torch.__version__.startswith("2.9")


def test_the_whole_command(command: Command, tmp_path: Path) -> None:
    made = command("oct-phantom", "--out", tmp_path / "bucket", "--participants", 3, "--scale", "0.03", "--json")
    assert made.code == 0, made.stderr
    words = ("--bucket", tmp_path / "bucket", "--encoder", "random:tiny", "--image-size", "16,64,64", "--limit", 5)
    for device in ("xla", "cpu"):
        done = command(
            *("extract-embeddings", *words, "--store", tmp_path / device),
            *("--device", device, "--batch-size", 2, "--json"),
        )
        assert done.code == 0, done.stderr
        assert (done.json["device"], done.json["committed"]) == (device, 5)
    compared = command("extract-embeddings", "diff", tmp_path / "xla", tmp_path / "cpu", "--json").json
    assert (compared["only_a"], compared["only_b"]) == (0, 0)
    assert compared["max_abs"] < 2e-3
