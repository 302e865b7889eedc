"""Which weights a stage changes, and how fast."""

from pathlib import Path

import numpy as np
import pytest
import torch
from finetune_study import IMAGE_SIZE

from classify.standardise import Standardiser
from embeddings_store.errors import UsageError
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder
from finetune.config import FinetuneConfig, StageConfig
from finetune.model import VolumeClassifier, host_weights
from finetune.stages import learning_rate_at, new_optimiser, parse_stages, set_trainable

STAGE = StageConfig(epochs=1, learning_rate=1e-2, weight_decay=0.1, warmup_fraction=0.25)


def changed_by(stage: str, encoder: Encoder, blocks: int = 1) -> set[str]:
    """Take one step and name the weights that are others now."""
    width = encoder.architecture.width
    standardiser = Standardiser((), np.zeros((1, width)), np.ones((1, width)))
    model = VolumeClassifier(encoder, standardiser, 4, seed=0)
    model.requires_grad_(requires_grad=True)  # as an earlier stage may have left it
    set_trainable(model.encoder, stage, blocks)
    before = host_weights(model)
    optimiser = new_optimiser([model], STAGE)
    volumes = torch.randn(2, 1, *encoder.architecture.image_size, generator=torch.Generator().manual_seed(0))
    model(volumes, torch.zeros(2, dtype=torch.long)).square().sum().backward()
    optimiser.step()
    return {name for name, weight in host_weights(model).items() if not torch.equal(weight, before[name])}


def test_head_changes_the_head_alone() -> None:
    assert changed_by("head", random_encoder("random:tiny", IMAGE_SIZE)) == {"head.weight", "head.bias"}


def test_last_changes_the_last_blocks_and_the_final_norm() -> None:
    changed = changed_by("last", random_encoder("random:tiny", IMAGE_SIZE), blocks=2)
    assert {name.split(".")[0] for name in changed} == {"head", "encoder"}
    parts = {".".join(name.split(".")[1:3]) for name in changed if name.startswith("encoder.")}
    assert parts == {"blocks.2", "blocks.3", "norm.weight", "norm.bias"}


def test_all_changes_everything_but_the_standardisation() -> None:
    encoder = random_encoder("random:tiny", IMAGE_SIZE)
    changed = changed_by("all", encoder)
    assert changed >= {f"encoder.{name}" for name in encoder.architecture.tensor_shapes if "bias" not in name}
    assert changed.isdisjoint({"mean", "scale"})


def test_the_encoder_that_was_given_stays_as_it_is() -> None:
    encoder = random_encoder("random:tiny", IMAGE_SIZE)
    before = host_weights(encoder.module)
    changed_by("all", encoder)
    assert all(torch.equal(weight, before[name]) for name, weight in host_weights(encoder.module).items())
    assert not any(weight.requires_grad for weight in encoder.module.parameters())


def test_another_family_has_last_blocks_too(reference: Path) -> None:
    encoder = load_checkpoint(reference / "vjepa2_hf")
    changed = changed_by("last", encoder, blocks=1)
    parts = {".".join(name.split(".")[1:3]) for name in changed if name.startswith("encoder.")}
    assert parts == {f"layer.{encoder.architecture.depth - 1}", "layernorm.weight", "layernorm.bias"}


def test_biases_norms_and_positions_do_not_decay() -> None:
    model = random_encoder("random:tiny", IMAGE_SIZE).module
    model.requires_grad_(requires_grad=True)
    groups = new_optimiser([model], STAGE).param_groups
    amount_of = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    decayed = {name for name, weight in model.named_parameters() if amount_of[id(weight)] > 0}
    linears = {name for name, weight in model.named_parameters() if weight.ndim > 1}
    assert decayed == linears - {"pos_embed"}
    assert len(amount_of) == len(list(model.parameters()))


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate_at(step, 100, STAGE) for step in range(100)]
    assert rates.index(max(rates)) in {24, 25}
    assert max(rates) == STAGE.learning_rate
    assert rates[:25] == sorted(rates[:25])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert 0 < rates[-1] < 0.01 * STAGE.learning_rate
    assert rates[0] > 0


def test_without_a_warm_up_the_first_step_is_the_fastest() -> None:
    stage = STAGE.model_copy(update={"warmup_fraction": 0.0})
    assert learning_rate_at(0, 1, stage) == stage.learning_rate


def test_the_last_stage_is_very_slow_by_default() -> None:
    config = FinetuneConfig()
    assert config.all.learning_rate < config.last.learning_rate < config.head.learning_rate


@pytest.mark.parametrize("text", ["", "head,", "all,head", "head,head", "neck", "head,last,all,lora"])
def test_other_stages_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--stages"):
        parse_stages(text)


def test_stages_are_read_in_order() -> None:
    assert parse_stages("head, all") == ("head", "all")
