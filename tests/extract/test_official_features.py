"""What official code makes of an encoder's tokens: pools, joined layers, attention pools, out of ours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float32
from safetensors.torch import load_file
from test_families import ENCODERS, FILES
from torch import Tensor, nn
from torch.nn.functional import layer_norm, multi_head_attention_forward

from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.module import prefix_of
from extract.pooling import pool

pytestmark = pytest.mark.skipif(not ENCODERS.is_dir(), reason="the shared fixtures are not here")
HF = ENCODERS / "hf_slices"


def run(
    family: str, folder: Path, image: str, layers: tuple[str, ...], *, file: Path | None = None, heads: int | None = 3
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Give what an encoder makes of an input of a fixture, and the fixture's arrays."""
    loaded = np.load(folder / "arrays.npz")
    arrays = {name: torch.from_numpy(loaded[name]) for name in loaded.files}
    images = arrays[image][:, :, None] if arrays[image].ndim == 4 else arrays[image]
    depth, height, width = images.shape[2:]
    encoder = load_checkpoint(file or FILES[family], family=family, heads=heads, image_size=(depth, height, width))
    return encoder.module(images, layers), arrays


def fresh_norm(tokens: Float32[Tensor, "*shape C"]) -> Float32[Tensor, "*shape C"]:
    """Apply a norm that nobody trained."""
    return layer_norm(tokens, tokens.shape[-1:], eps=1e-6)


def require_near(found: Tensor, official: Tensor, tolerance: float = 2e-5) -> None:
    assert found.shape == official.shape
    assert float((found - official).abs().max()) <= tolerance


def test_retfound_class_token_and_global_pool() -> None:
    found, official = run("retfound", ENCODERS / "retfound_mae", "image", ("3", "last"))
    leading = found[prefix_of("last")][:, :1]
    require_near(pool(found["last"], ("cls",), leading)[:, 0], official["official_cls"])
    require_near(fresh_norm(pool(found["3"], ("mean",))[:, 0]), official["official_global_pool"])


def test_mirage_pools_are_of_tokens_that_went_through_a_fresh_norm() -> None:
    found, official = run("mirage", ENCODERS / "mirage", "bscan", ("last",))
    require_near(fresh_norm(found["last"]).mean(1), official["official_pool_global"])
    require_near(fresh_norm(found[prefix_of("last")][:, 0]), official["official_pool_cls"])


@pytest.mark.parametrize(("of", "tolerance"), [("", 2e-5), ("_9", 1e-4)])
def test_octcube_embedding_is_the_mean_of_the_branch_without_norm(of: str, tolerance: float) -> None:
    found, official = run("octcube", ENCODERS / "octcube", f"image{of}", ("3",))
    require_near(pool(found["3"], ("mean",))[:, 0], official[f"official_embedding{of}"], tolerance)


def test_visionfm_features_are_the_class_tokens_of_the_last_four_blocks() -> None:
    layers = ("2", "3", "4", "5")
    found, official = run("visionfm", ENCODERS / "visionfm", "image", layers)
    joined = torch.cat([found[prefix_of(layer)][:, 0] for layer in layers], dim=1)
    require_near(joined, official["official_features"])


def test_vjepa21_norms_of_four_depths() -> None:
    """The file has a norm for each; the official evaluation joins the four layers."""
    found, official = run("vjepa21", ENCODERS / "vjepa21_pt", "rgb_input", ("3", "6", "9", "12", "last"), heads=2)
    state = torch.load(FILES["vjepa21"], weights_only=False)["ema_encoder"]
    for place, layer in enumerate(("3", "6", "9", "12")):
        weight, bias = (state[f"module.backbone.norms_block.{place}.{part}"] for part in ("weight", "bias"))
        require_near(
            layer_norm(found[layer], weight.shape, weight, bias, eps=1e-6), official[f"rgb_normed_after_{layer}"]
        )
    require_near(found["last"], official["rgb_normed_after_12"])


@pytest.mark.parametrize("folder, family", [("dinov2", "dinov2"), ("dinov2_with_registers", "dinov2_registers"),
                                            ("dinov3_vit", "dinov3")])  # fmt: skip
def test_the_pooler_of_dino_is_the_class_token_after_the_norm(folder: str, family: str) -> None:
    found, official = run(family, HF / folder, "image", ("last",), file=HF / folder, heads=None)
    leading = found[prefix_of("last")][:, :1]
    require_near(pool(found["last"], ("cls",), leading)[:, 0], official["pooler_output"])


def test_siglip_pooler_follows_from_the_tokens_and_the_head_of_the_file() -> None:
    folder = HF / "siglip_vision_model"
    found, official = run("siglip", folder, "image", ("last",), file=folder, heads=None)
    state = load_file(folder / "model.safetensors")
    head = {name.partition("head.")[2]: tensor for name, tensor in state.items() if ".head." in f".{name}"}
    tokens = found["last"].transpose(0, 1)
    asked = head["probe"].transpose(0, 1).expand(-1, tokens.shape[1], -1)
    pooled, _ = multi_head_attention_forward(
        asked, tokens, tokens, tokens.shape[2], 3, head["attention.in_proj_weight"], head["attention.in_proj_bias"],
        None, None, False, 0.0, head["attention.out_proj.weight"], head["attention.out_proj.bias"], training=False,
    )  # fmt: skip
    pooled = pooled[0]
    normed = layer_norm(pooled, pooled.shape[1:], head["layernorm.weight"], head["layernorm.bias"], eps=1e-6)
    inner = nn.functional.linear(normed, head["mlp.fc1.weight"], head["mlp.fc1.bias"])
    inner = nn.functional.gelu(inner, approximate="tanh")
    pooled = pooled + nn.functional.linear(inner, head["mlp.fc2.weight"], head["mlp.fc2.bias"])
    require_near(pooled, official["pooler_output"])


def test_retfound_dinov2_head_input() -> None:
    found, official = run("dinov2", ENCODERS / "retfound_dinov2", "image", ("last",))
    require_near(found[prefix_of("last")][:, 0], official["official_head_input"])


def test_every_array_of_an_official_pool_is_read_here() -> None:
    text = Path(__file__).read_text()
    names = {name for path in ENCODERS.glob("*/arrays.npz") for name in np.load(path).files if name.startswith("off")}
    assert {name for name in names if name.removesuffix("_9") not in text} == set()
