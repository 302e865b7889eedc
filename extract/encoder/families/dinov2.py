"""DINOv2 without registers: RETFound-DINOv2, official .pth files and Hugging Face folders."""

from extract.encoder.family import Card, Family

RENAMES = (
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"\.ls([12])\.gamma$", r".ls\1"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^(embeddings\.)?register_tokens$", "registers"),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.query\.", ".attn.q."),
    (r"\.attention\.attention\.key\.", ".attn.k."),
    (r"\.attention\.attention\.value\.", ".attn.v."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1"),
    (r"^layernorm\.", "norm."),
)
IGNORED = (r"(embeddings\.)?mask_token", r"(dino_|ibot_)?head\..*", r"classifier\..*")
HEADS = {(384, 12): 6, (768, 12): 12, (1024, 24): 16}
CONFIG = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_channels": 3, "qkv_bias": True, "use_swiglu_ffn": False}

DINOV2 = Family(
    name="dinov2",
    card=Card(
        title="DINOv2, ViT-S, B and L/14; RETFound-DINOv2",
        licence="Apache-2.0 (Meta's weights); CC BY-NC 4.0 (RETFound-DINOv2)",
        commercial=None,
        gated=False,
        citation="Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024",
        weights="Hugging Face facebook/dinov2-*; YukunZhou/RETFound_dinov2_meh (gated)",
    ),
    preset="imagenet",
    positions="bicubic",
    frames=16,
    side=224,
    slices=True,
    has=(r"(embeddings\.)?cls_token", r".*\.(ls1\.gamma|layer_scale1\.lambda1)", ".*pos(ition)?_embed.*"),
    lacks=(r"(embeddings\.)?register_tokens",),
    keys=("teacher", "", "dinov2"),
    context=("student",),
    target=("teacher",),
    ignored=IGNORED,
    renames=RENAMES,
    extra={"cls_token": "1 1 C", "pos_embed": "1 * C"},
    heads=HEADS,
    layer_scale=True,
    model_type="dinov2",
    config=CONFIG,
)
"""Source: the fixtures retfound_dinov2 and hf_slices."""
