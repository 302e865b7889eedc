"""SigLIP's vision tower: no class token, a tanh GELU, and a position table of one size."""

from extract.encoder.family import Card, Family

SIGLIP = Family(
    name="siglip",
    card=Card(
        title="SigLIP, vision tower of ViT-B, L and So400m",
        licence="Apache-2.0",
        commercial=True,
        gated=False,
        citation="Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023",
        weights="Hugging Face google/siglip-*",
    ),
    preset="siglip",
    positions="fixed",
    frames=16,
    slices=True,
    has=(r"embeddings\.position_embedding\.weight", r"encoder\.layers\.0\.self_attn\.q_proj\.weight"),
    keys=("", "vision_model"),
    ignored=(r"head\..*",),
    renames=(
        (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
        (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
        (r"^encoder\.layers\.", "blocks."),
        (r"\.layer_norm([12])\.", r".norm\1."),
        (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
        (r"\.self_attn\.out_proj\.", ".attn.proj."),
        (r"^post_layernorm\.", "norm."),
    ),
    extra={"pos_embed": "* C"},
    heads={(768, 12): 12, (1024, 24): 16, (1152, 27): 16},
    activation="gelu_tanh",
    model_type="siglip_vision_model",
    config={"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "num_channels": 3},
)
"""Source: the fixture hf_slices. The attention pool (head) is not a token, so it is left out."""
