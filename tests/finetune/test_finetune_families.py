"""Fine-tuning of other families: refused by name, since their own preprocessing is not that of training here.

Their modules could learn; what is missing is a bucket prepared their way.
"""

import pytest
import torch
from finetune_study import plain_standardiser

from embeddings_store.errors import UsageError
from extract.encoder.architecture import Architecture
from extract.encoder.encoder import Encoder
from extract.encoder.families import FAMILIES
from extract.encoder.own_preset import require_own_preset
from extract.encoder.random_init import random_twin
from finetune.model.lora import remove_lora
from finetune.model.network import VolumeClassifier, host_weights
from finetune.options import PRESET
from finetune.recipe.load import load_config
from finetune.training.stages import new_optimiser, set_trainable

OTHERS = [name for name in FAMILIES if name != "vjepa3d"]


def small(family: str) -> Encoder:
    kind = FAMILIES[family]
    patch = (1 if kind.slices else 2, 16, 16)
    return random_twin(Architecture(family, (4, 32, 32), patch, 48, 2, 3, 96, int("cls_token" in kind.extra)), 0, "it")


@pytest.mark.parametrize("family", OTHERS)
def test_a_family_with_another_preset_is_refused_by_name(family: str) -> None:
    with pytest.raises(UsageError, match=rf"{family} goes with {FAMILIES[family].preset}; probe instead"):
        require_own_preset(small(family), PRESET.name, "probe instead")


def test_our_own_is_not_refused() -> None:
    require_own_preset(small("vjepa3d"), PRESET.name, "probe instead")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("stage", "learns"),
    [
        ("head", ()),
        ("last", ("blocks.1",)),
        ("all", ("patch_embed", "blocks.0", "blocks.1")),
        ("lora", ("blocks.0", "blocks.1")),
    ],
)
def test_every_stage_changes_what_it_says_in_every_family(family: str, stage: str, learns: tuple[str, ...]) -> None:
    """A user's own family with slices may go with the preset of training; it is one of these modules."""
    encoder = small(family)
    model = VolumeClassifier(encoder, plain_standardiser(encoder), 4, seed=0)
    before = host_weights(model)
    config = load_config(None, changes=("stages.last.blocks=1",)).stages.find(stage)
    set_trainable(model, config)
    optimiser = new_optimiser(model, config)
    volumes = torch.randn(2, 1, *encoder.architecture.image_size, generator=torch.Generator().manual_seed(0))
    for _ in range(2):  # the first step of LoRA changes "up" alone, which begins at 0
        model(volumes, torch.zeros(2, dtype=torch.long)).square().sum().backward()
        optimiser.step()
    remove_lora(model.encoder)
    after = host_weights(model)
    changed = {name.removeprefix("encoder.") for name in before if not torch.equal(before[name], after[name])}
    assert {"head.weight", "head.bias"} <= changed
    for part in ("patch_embed", "blocks.0", "blocks.1"):
        assert any(name.startswith(f"{part}.") for name in changed) is (
            part in learns or (stage, part) == ("lora", "blocks.1")
        )
