"""The recipe that fits a device: what is counted is what autograd keeps, and what is chosen is what fits."""

from typing import Any

import numpy as np
import pytest
import torch
from finetune_study import plain_standardiser, small_encoder

from embeddings_store.errors import UsageError
from extract.device.cpu import CpuBackend
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import ARCHITECTURES
from finetune.model.network import VolumeClassifier
from finetune.recipe.config import FinetuneConfig, StageConfig
from finetune.recipe.fitting import OWN_BYTES, count_step, describe_fit, fit_recipe
from finetune.recipe.load import load_config
from finetune.training.run_stages import choose_workers
from finetune.training.stages import set_trainable

FULL = ARCHITECTURES["base"]
STAGES = ("head", "last", "all")


class Gpu(CpuBackend):
    """A device of so many GB."""

    def __init__(self, gb: float | None, prefers_bf16: bool = True) -> None:
        super().__init__("fp32")
        self.gb, self.prefers_bf16 = gb, prefers_bf16

    def memory_bytes(self) -> int | None:
        return None if self.gb is None else int(self.gb * 1e9)


def fitted(gb: float | None, *changes: str, stages: tuple[str, ...] = STAGES, **more: Any) -> FinetuneConfig:
    processes = more.pop("processes", 1)
    return fit_recipe(load_config(None, changes=changes), stages, FULL, Gpu(gb, **more), processes)


def kept_bytes(encoder: Encoder, config: StageConfig, *, bf16: bool, volumes: int) -> int:
    """What autograd keeps of a forward, weights left out."""
    model = VolumeClassifier(encoder, plain_standardiser(encoder), 2, 0, bf16=bf16)
    set_trainable(model, config)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    batch = torch.randn(volumes, 1, *encoder.architecture.image_size)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.train()
        model(batch, torch.zeros(volumes, dtype=torch.long)).sum()
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("bf16", [False, True])
def test_what_is_counted_of_a_block_is_what_autograd_keeps_of_it(bf16: bool) -> None:
    """Of some volumes more, and of two blocks more, so that what is kept but once is not counted."""
    encoder, last = small_encoder(depth=4), FinetuneConfig().stages.last
    of = {}
    for blocks in (1, 3):
        config = last.model_copy(update={"blocks": blocks})
        six, two = (kept_bytes(encoder, config, bf16=bf16, volumes=volumes) for volumes in (6, 2))
        cost = count_step(encoder.architecture, config, bf16=bf16, recompute=False)
        of[blocks] = np.array([(six - two) / 4, cost.volume_bytes])
    found, counted = of[3] - of[1]
    assert counted == pytest.approx(found, rel=0.12)


def test_full_size_takes_what_was_seen_on_paper() -> None:
    everything = FinetuneConfig().stages.all
    gigabytes = [
        count_step(FULL, everything, bf16=bf16, recompute=again).volume_bytes / 1e9
        for bf16, again in ((True, False), (False, False), (True, True))
    ]
    assert gigabytes == pytest.approx([3.5, 6.0, 0.75], abs=0.25)
    fixed = count_step(FULL, everything, bf16=True, recompute=False).fixed_bytes - OWN_BYTES
    assert fixed / 1e9 == pytest.approx(18 * 0.093, rel=0.02)  # weights, gradients, two moments, and copies in bf16
    assert count_step(FULL, everything, bf16=True, recompute=False).tflop == pytest.approx(14.1, abs=0.3)
    assert count_step(FULL, everything, bf16=True, recompute=True).tflop == pytest.approx(18.8, abs=0.4)
    assert count_step(FULL, FinetuneConfig().stages.last, bf16=True, recompute=False).tflop == pytest.approx(
        6.3, abs=0.2
    )


@pytest.mark.parametrize(
    ("gb", "expected"),
    [
        (16, ("bf16", False, 2)),
        (24, ("bf16", False, 4)),
        (40, ("bf16", False, 8)),
        (80, ("bf16", False, None)),
        (6, ("bf16", True, 2)),
    ],
)
def test_each_size_of_device_gets_what_fits(gb: float, expected: tuple[str, bool, int | None]) -> None:
    config = fitted(gb)
    expected = (*expected[:2], None if expected[2] == 8 else expected[2])
    assert (config.precision, config.recompute, config.micro_batch_size) == expected
    assert config.batch_size == 8


def test_what_was_asked_for_stays_and_the_rest_is_found() -> None:
    assert fitted(80, "precision=fp32").precision == "fp32"
    assert fitted(16, "precision=fp32").micro_batch_size == 1
    assert fitted(80, "recompute=true").recompute is True
    assert fitted(80, "micro_batch_size=2").micro_batch_size == 2
    assert fitted(16, "micro_batch_size=8").recompute is True
    assert fitted(16, "batch_size=6").micro_batch_size == 3
    assert fitted(24, "batch_size=7").micro_batch_size == 1
    assert fitted(16, processes=4).micro_batch_size is None, "a share of two fits at once"
    assert fitted(16, stages=("head",)).micro_batch_size is None
    assert fitted(80, prefers_bf16=False).precision == "fp32"
    assert fitted(16, stages=("head", "last")).micro_batch_size is None


def test_where_memory_is_not_told_nothing_is_cut() -> None:
    config = fitted(None, prefers_bf16=False)
    assert (config.precision, config.recompute, config.micro_batch_size) == ("fp32", False, None)
    assert fit_recipe(load_config(None), STAGES, FULL, CpuBackend("fp32"), 1).precision == "fp32"


def test_the_chips_of_a_slice_share_a_batch() -> None:
    """The default of 8 volumes in stage 3 takes 31 GB: a v5e chip has 16."""
    one, four, many = (Gpu(16.0) for _ in range(3))
    four.chips, many.chips = 4, 16
    assert fit_recipe(load_config(None), STAGES, FULL, one, 1).micro_batch_size == 2
    assert fit_recipe(load_config(None), STAGES, FULL, four, 1).micro_batch_size is None
    slice_of_16 = fit_recipe(load_config("tpu-v4-32", changes=("recompute=false",)), STAGES, FULL, many, 1)
    assert slice_of_16.micro_batch_size == 2 * 16
    said = describe_fit(slice_of_16, STAGES, FULL, many.memory_bytes(), 1, 16)
    assert said.startswith("recipe: bf16, 2 of 8 volumes a forward on each of 16 chips; stage last ")
    asked = load_config(None, changes=("batch_size=16", "micro_batch_size=8"))
    assert fit_recipe(asked, STAGES, FULL, four, 1).micro_batch_size == 8


def test_a_device_on_which_nothing_fits_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected a device with \d+\.\d GB or more .* got 3\.0 GB; take"):
        fitted(3)


def test_what_was_chosen_is_said() -> None:
    config = fitted(24)
    said = describe_fit(config, STAGES, FULL, int(24e9), 1)
    assert said.startswith("recipe: bf16, 4 of 8 volumes a forward; stage last ")
    assert " GB of 24 and 14.1 TFLOP a volume (by counting)" in said
    assert "activations computed again" in describe_fit(fitted(6), STAGES, FULL, int(6e9), 1)


@pytest.mark.parametrize(
    ("asked", "is_host", "cores", "local", "expected"),
    [
        (None, True, 8, 1, 0),
        (None, False, 8, 1, 8),
        (None, False, 64, 1, 16),
        (None, False, 64, 8, 8),
        (None, False, 4, 8, 1),
        (0, False, 8, 1, 0),
        (3, True, 1, 1, 3),
    ],
)
def test_loading_processes_are_as_many_as_the_machine_has_cores_for_them(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, is_host: bool, cores: int, local: int, expected: int
) -> None:
    monkeypatch.setattr("finetune.training.run_stages.usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
    backend = CpuBackend("fp32")
    monkeypatch.setattr(backend, "is_host", is_host)
    assert choose_workers(FinetuneConfig(workers=asked), backend) == expected
