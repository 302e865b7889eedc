"""Encoders with random weights: sizes, seeds, names."""

import numpy as np
import pytest
import torch

from embeddings_store.errors import UsageError
from extract.encoder.open import open_encoder
from extract.encoder.random_init import ARCHITECTURES, random_encoder, random_twin
from extract.encoder.transformer import Transformer


def test_base_has_the_stated_parameters() -> None:
    assert ARCHITECTURES["base"].parameter_count == 92_921_088
    assert ARCHITECTURES["base"].grid == (16, 24, 24)
    with torch.device("meta"):
        module = Transformer(ARCHITECTURES["base"])
    assert sum(parameter.numel() for parameter in module.parameters()) == 92_921_088


def test_tiny_is_what_the_contract_says() -> None:
    architecture = random_encoder("random:tiny").architecture
    assert (architecture.image_size, architecture.patch) == ((32, 96, 96), (4, 16, 16))
    assert (architecture.width, architecture.depth, architecture.heads) == (192, 4, 3)


def test_a_seed_gives_the_same_weights_everywhere() -> None:
    """The digests were computed once; another processor or library version must give them again."""
    assert random_encoder("random:tiny").weights_sha256.startswith("46daa4c368fee6b1")
    assert random_encoder("random:tiny,seed=3").weights_sha256.startswith("186082cb06b0d8ca")


def test_the_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(1)
    first, state = random_encoder("random:tiny,seed=5").weights_sha256, torch.get_rng_state()
    torch.manual_seed(2)
    assert random_encoder("random:tiny,seed=5").weights_sha256 == first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_starts_like_pretraining() -> None:
    for name, tensor in random_encoder("random:tiny").module.state_dict().items():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif "norm" in name:
            assert (tensor == 1).all(), name
        else:
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.05), name


def test_another_image_size_changes_the_position_table_only() -> None:
    own, other = random_encoder("random:tiny"), random_encoder("random:tiny", (16, 64, 64))
    assert other.architecture.grid == (4, 4, 4)
    changed = [
        name
        for name, tensor in other.module.state_dict().items()
        if not np.array_equal(tensor.numpy(), own.module.state_dict()[name].numpy())
    ]
    assert changed == ["pos_embed"]


def test_a_twin_has_the_architecture_it_is_given() -> None:
    architecture = random_encoder("random:tiny", (16, 64, 64)).architecture
    twin = random_twin(architecture, 7, "twin")
    assert twin.architecture == architecture
    assert twin.weights_sha256 == random_encoder("random:tiny,seed=7", (16, 64, 64)).weights_sha256


@pytest.mark.parametrize(
    "name", ["random:huge", "tiny", "random", "random:tiny,heads=3", "random:tiny,seed=x", "random:tiny,seed=-1", ""]
)
def test_unknown_names_and_options_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="encoder"):
        random_encoder(name)


def test_an_image_size_that_the_patch_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="30x96x96: expected multiples"):
        random_encoder("random:tiny", (30, 96, 96))


def test_exactly_one_source_of_the_encoder(tmp_path_factory: pytest.TempPathFactory) -> None:
    somewhere = tmp_path_factory.getbasetemp() / "encoder.pt"
    with pytest.raises(UsageError, match="expected --checkpoint FILE"):
        open_encoder()
    with pytest.raises(UsageError, match="expected --checkpoint FILE"):
        open_encoder(checkpoint=somewhere, encoder="random:tiny")
    with pytest.raises(UsageError, match="--num-heads"):
        open_encoder(encoder="random:tiny", heads=3)
    with pytest.raises(UsageError, match="--interpolate"):
        open_encoder(encoder="random:tiny", interpolate=True)
    assert open_encoder(encoder="random:tiny,seed=4").source == "random:tiny,seed=4"
