"""What trainers save beside tensors: read as facts where it is a number, no alarm, and nothing of it is run."""

import argparse
import collections
import datetime
import pathlib
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from extract.doctor.weights import examine_checkpoint
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.weight_file import open_weight_file
from extract.errors import CheckpointError

SIZE = (16, 64, 64)
CALLER: dict[str, Any] = {"heads": 3, "image_size": SIZE}


@pytest.fixture
def weights(reference: Path) -> dict[str, Tensor]:
    """The context encoder of the fixture, names without prefix."""
    with open_weight_file(reference / "vjepa3d_nested" / "weights.safetensors") as file:
        return {name: file.read(name) for name in file.shapes}


def saved(folder: Path, content: object, protocol: int = 2) -> Path:
    torch.save(content, folder / "some.pt", pickle_protocol=protocol)
    return folder / "some.pt"


EVERYDAY: dict[str, object] = {
    "float64": np.float64(0.5),
    "bool_": np.bool_(True),
    "big-endian": np.array(3, ">i4"),
    "dtype": np.dtype("float32"),
    "datetime64": np.datetime64("2026-01-01"),
    "type": np.float32,
    "path": Path("runs/1"),
    "windows path": pathlib.PureWindowsPath("runs\\1"),
    "time": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "duration": datetime.timedelta(1),
    "arguments": argparse.Namespace(lr=1e-4, out=Path("a")),
    "simple": SimpleNamespace(a=1),
    "deque": collections.deque([1], maxlen=3),
    "counter": collections.Counter("aab"),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "random": random.getstate(),
    "numpy random": np.random.RandomState(1).get_state(),
    "generator": np.random.default_rng(1),
    "torch random": torch.get_rng_state(),
    "device": torch.device("cuda:0"),
    "set": {1, 2},
    "complex": 1j,
    "bytes": b"ab\xff",
    "version": torch.torch_version.TorchVersion("2.9"),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", EVERYDAY)
def test_everyday_objects_raise_no_alarm(tmp_path: Path, weights: dict[str, Tensor], name: str, protocol: int) -> None:
    path = saved(tmp_path, {"model": weights, "extra": {"deep": EVERYDAY[name]}}, protocol)
    facts = load_checkpoint(path, **CALLER).facts
    assert "foreign_globals" not in facts


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "loss",
    [np.float64(0.25), np.float32(0.25), np.float16(0.25), np.array(0.25), np.array([0.25], ">f4"), torch.tensor(0.25)],
    ids=lambda loss: f"{type(loss).__name__}-{loss.dtype}",
)
def test_numbers_of_every_kind_are_read(
    tmp_path: Path, weights: dict[str, Tensor], loss: object, protocol: int
) -> None:
    path = saved(tmp_path, {"model": weights, "epoch": np.int64(7), "loss": loss, "global_step": 90}, protocol)
    facts = load_checkpoint(path, **CALLER).facts
    assert facts == {"epoch": 7, "loss": 0.25, "step": 90}
    assert [type(facts[name]) for name in ("epoch", "loss")] == [int, float]
    report, _ = examine_checkpoint(path, **CALLER, which="context")
    assert "foreign code" not in {check.name for check in report.checks}
    assert report.figures["loss"] == 0.25


def test_a_namespace_says_what_a_config_says(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    config = argparse.Namespace(num_heads=3, image_size=[*SIZE], out=Path("a"))
    path = saved(tmp_path, {"model": weights, "config": config})
    assert load_checkpoint(path).architecture.heads == 3
    with pytest.raises(CheckpointError, match="says 3 heads, but 4"):
        load_checkpoint(path, heads=4)


def test_an_optimizers_state_that_is_a_defaultdict(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    state = collections.defaultdict(dict, {0: {"step": torch.tensor(12.0)}})
    path = saved(tmp_path, {"model": weights, "optimizer_state_dict": {"state": state}})
    assert load_checkpoint(path, **CALLER).facts == {"optimizer_steps": 12.0}


def test_code_is_still_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = saved(tmp_path, {"model": weights, "extra": [pathlib.Path("a"), pathlib.os.system, np.testing.assert_equal]})
    names = load_checkpoint(path, **CALLER).facts["foreign_globals"]
    assert [name.rpartition(".")[2] for name in names] == ["assert_equal", "system"]


WRAPPED = [
    "module.",
    "_orig_mod.module.",
    "module._orig_mod.",
    "_forward_module._fsdp_wrapped_module.",
    "model.",
    "model._orig_mod.",
    "_module.",
]


@pytest.mark.parametrize("outside", WRAPPED)
@pytest.mark.parametrize("inside", ["_checkpoint_wrapped_module.", "_fsdp_wrapped_module._checkpoint_wrapped_module."])
def test_what_wrappers_leave_is_left_out(tmp_path: Path, weights: dict[str, Tensor], outside: str, inside: str) -> None:
    plain = load_checkpoint(saved(tmp_path, weights), **CALLER).weights_sha256

    def wrap(name: str) -> str:
        parts = name.split(".", 2)
        deep = f"{parts[0]}.{parts[1]}.{inside}{parts[2]}" if parts[0] == "blocks" else name
        return f"{outside}context_encoder.{deep}"

    wrapped = {wrap(name): tensor for name, tensor in weights.items()}
    assert load_checkpoint(saved(tmp_path, {"model_state_dict": wrapped}), **CALLER).weights_sha256 == plain


def test_an_averaged_models_counter_is_no_weight(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    averaged = {f"module.{name}": tensor for name, tensor in weights.items()} | {"n_averaged": torch.tensor(3)}
    assert load_checkpoint(saved(tmp_path, averaged), **CALLER).weights_sha256


@pytest.mark.parametrize("keys", [("module",), ("model", "module"), ("state_dict", "model")])
def test_keys_within_keys(tmp_path: Path, weights: dict[str, Tensor], keys: tuple[str, ...]) -> None:
    content: Any = weights
    for key in reversed(keys):
        content = {key: content, "epoch": 1}
    assert load_checkpoint(saved(tmp_path, content), **CALLER).facts == {"epoch": 1}


def test_two_names_that_become_one_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    twice = weights | {"_checkpoint_wrapped_module.norm.weight": weights["norm.weight"]}
    with pytest.raises(CheckpointError, match=r"are both the tensor norm\.weight"):
        load_checkpoint(saved(tmp_path, twice), **CALLER)


def test_a_refusal_tells_what_lies_in_the_file(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    student = {f"module.trunk.{name}": tensor for name, tensor in weights.items()}
    content = {"student": student, "teacher": {"head.weight": torch.ones(1)}, "epoch": 3}
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(saved(tmp_path, content), **CALLER)
    assert f"the file holds student ({len(weights)} tensors), teacher (1 tensor), epoch (0 tensors)" in str(
        refusal.value
    )
    with pytest.raises(CheckpointError, match=r"model \(29 tensors\); prefixes of wrappers: module\."):
        load_checkpoint(saved(tmp_path, {"model": student}), **CALLER)
