"""LoRA: nothing at first, attention alone afterwards, and plain weights in the end."""

import torch
from finetune_study import IMAGE_SIZE, plain_standardiser, small_encoder

from finetune.model.lora import LoraLinear, insert_lora, plain_weights, remove_lora
from finetune.model.network import VolumeClassifier, host_weights
from finetune.recipe.config import StagesConfig
from finetune.training.stages import new_optimiser, set_trainable

STAGE = StagesConfig().lora
VOLUMES = torch.randn(2, 1, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
GROUP = torch.zeros(2, dtype=torch.long)


def new_model() -> VolumeClassifier:
    encoder = small_encoder()
    return VolumeClassifier(encoder, plain_standardiser(encoder), 2, seed=0)


def trained() -> VolumeClassifier:
    model = new_model()
    set_trainable(model, STAGE, seed=3)
    optimiser = new_optimiser(model, STAGE)
    for group in optimiser.param_groups:
        group["lr"] = 0.05
    for _ in range(3):
        optimiser.zero_grad()
        model(VOLUMES, GROUP).square().sum().backward()
        optimiser.step()
    return model


def test_it_changes_nothing_before_the_first_step() -> None:
    model = new_model()
    before = model(VOLUMES, GROUP)
    insert_lora(model.encoder, STAGE, seed=0)
    assert sum(isinstance(part, LoraLinear) for part in model.modules()) == 4
    torch.testing.assert_close(model(VOLUMES, GROUP), before)


def test_only_the_low_rank_weights_and_the_head_learn() -> None:
    model, start = trained(), host_weights(new_model())
    free = {name.rpartition(".")[2] for name, weight in model.named_parameters() if weight.requires_grad}
    assert free == {"up", "down", "weight", "bias"}
    assert {n for n, w in model.named_parameters() if w.requires_grad and not n.endswith((".up", ".down"))} == {
        "head.weight", "head.bias",
    }  # fmt: skip
    frozen = {name.replace(".linear.", "."): weight for name, weight in host_weights(model.encoder).items()}
    assert all(torch.equal(frozen[name.removeprefix("encoder.")], w) for name, w in start.items() if "attn" in name)


def test_merged_weights_compute_the_same_under_the_plain_names() -> None:
    model, plain = trained(), new_model()
    expected = model(VOLUMES, GROUP)
    start = host_weights(plain)
    merged = plain_weights(model)
    assert merged.keys() == start.keys()
    changed = {name for name in start if not torch.equal(start[name], merged[name])}
    kinds = ("attn.qkv.weight", "attn.proj.weight")
    assert changed == {f"encoder.blocks.{n}.{kind}" for n in range(2) for kind in kinds} | {"head.weight", "head.bias"}
    plain.load_state_dict(merged)
    torch.testing.assert_close(plain(VOLUMES, GROUP), expected, atol=1e-5, rtol=1e-5)
    remove_lora(model.encoder)
    assert host_weights(model).keys() == start.keys()
    torch.testing.assert_close(model(VOLUMES, GROUP), expected, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_first_weights() -> None:
    models = [new_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        insert_lora(model.encoder, STAGE, seed)
    one, two, other = (host_weights(model) for model in models)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one if name.endswith("down"))
