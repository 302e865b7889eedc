"""Which weights a stage changes, and how fast."""

from pathlib import Path

import pytest
import torch
from finetune_study import IMAGE_SIZE, plain_standardiser

from embeddings_store.errors import UsageError
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder
from finetune.model.network import VolumeClassifier, host_weights
from finetune.recipe.config import FinetuneConfig
from finetune.recipe.load import load_config
from finetune.recipe.stage_names import parse_stages
from finetune.training.stages import new_optimiser, require_blocks, schedule_factor, set_rates, set_trainable

STAGES = load_config(None, changes=("stages.last.layer_decay=0.5", "stages.all.layer_decay=0.5")).stages
DEPTH = 4


def new_model(encoder: Encoder) -> VolumeClassifier:
    return VolumeClassifier(encoder, plain_standardiser(encoder), 4, seed=0)


def changed_by(stage: str, encoder: Encoder, blocks: int = 1) -> set[str]:
    """Take one step and name the weights that are others now."""
    config = load_config(None, changes=(f"stages.last.blocks={blocks}",)).stages.find(stage)
    model = new_model(encoder)
    model.requires_grad_(requires_grad=True)  # as an earlier stage may have left it
    set_trainable(model, config)
    before = host_weights(model)
    optimiser = new_optimiser(model, config)
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
    assert parts == {f"blocks.{encoder.architecture.depth - 1}", "norm.weight", "norm.bias"}


def rates(stage: str) -> dict[str, tuple[float, float]]:
    """The highest learning rate and the weight decay of every weight that may change."""
    model = new_model(random_encoder("random:tiny", IMAGE_SIZE))
    config = STAGES.find(stage)
    set_trainable(model, config)
    names = {id(weight): name for name, weight in model.named_parameters()}
    groups = new_optimiser(model, config).param_groups
    return {names[id(w)]: (group["lr"], group["weight_decay"]) for group in groups for w in group["params"]}


def test_learning_rates_fall_with_depth_as_configured() -> None:
    found = {name: rate for name, (rate, _) in rates("all").items()}
    top = STAGES.all.encoder_learning_rate
    assert found["head.weight"] == found["head.bias"] == STAGES.all.learning_rate
    assert found["encoder.norm.weight"] == top
    for block in range(DEPTH):
        assert found[f"encoder.blocks.{block}.attn.qkv.weight"] == pytest.approx(top * 0.5 ** (DEPTH - 1 - block))
    for name in ("pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
        assert found[f"encoder.{name}"] == pytest.approx(top * 0.5**DEPTH)


def test_lora_has_one_rate_for_the_encoder() -> None:
    found = {rate for name, (rate, _) in rates("lora").items() if name.startswith("encoder.")}
    assert found == {STAGES.lora.encoder_learning_rate}


def test_biases_norms_and_positions_do_not_decay() -> None:
    found = rates("all")
    model = new_model(random_encoder("random:tiny", IMAGE_SIZE))
    linears = {name for name, weight in model.named_parameters() if weight.ndim > 1}
    assert {name for name, (_, decay) in found.items() if decay > 0} == linears - {"encoder.pos_embed"}
    assert {decay for _, decay in found.values()} == {0.0, STAGES.all.weight_decay}
    assert found.keys() == dict(model.named_parameters()).keys()


def test_the_learning_rate_rises_then_falls() -> None:
    factors = [schedule_factor(step, 100, 0.25) for step in range(100)]
    assert factors[:25] == pytest.approx([(step + 1) / 25 for step in range(25)])
    assert factors[25] == max(factors) == 1.0
    assert factors[25:] == sorted(factors[25:], reverse=True)
    assert 0 < factors[-1] < 0.01


def test_without_a_warm_up_the_first_step_is_the_fastest() -> None:
    assert schedule_factor(0, 1, 0.0) == 1.0


def test_all_groups_follow_the_schedule() -> None:
    model = new_model(random_encoder("random:tiny", IMAGE_SIZE))
    set_trainable(model, STAGES.all)
    optimiser = new_optimiser(model, STAGES.all)
    set_rates(optimiser, 0.25)
    assert all(group["lr"] == group["peak"] * 0.25 for group in optimiser.param_groups)


def test_the_encoder_is_slower_than_the_head_by_default_and_slower_with_depth() -> None:
    stages = FinetuneConfig().stages
    assert stages.all.encoder_learning_rate <= stages.last.encoder_learning_rate < stages.last.learning_rate
    assert stages.last.learning_rate < stages.head.learning_rate
    assert max(stages.all.layer_decay, stages.last.layer_decay) < 1


@pytest.mark.parametrize("text", ["", "head,", "all,head", "head,head", "neck", "head,last,all,lora", "last,lora"])
def test_other_stages_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--stages"):
        parse_stages(text)


@pytest.mark.parametrize("text", ["head", "last", "all", "lora", "head, all", "head,lora", "head,last,all"])
def test_stages_are_read_in_order(text: str) -> None:
    assert parse_stages(text) == tuple(name.strip() for name in text.split(","))


def test_more_blocks_than_there_are_are_refused() -> None:
    with pytest.raises(UsageError, match=r"stages\.last\.blocks: expected 1 to the encoder's 1 blocks, got 2"):
        require_blocks(FinetuneConfig(), ("last",), 1)
    require_blocks(FinetuneConfig(), ("head", "all"), 1)
