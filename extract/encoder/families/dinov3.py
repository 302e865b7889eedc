"""DINOv3 (Meta): axial rotary positions on patch tokens only, keys without bias."""

from extract.encoder.family import Card, Family

DINOV3 = Family(
    name="dinov3",
    card=Card(
        title="DINOv3, ViT-S, B and L/16",
        licence="DINOv3 License",
        commercial=True,
        gated=True,
        citation="Simeoni et al., DINOv3, 2025",
        weights="Hugging Face facebook/dinov3-vit*-pretrain-lvd1689m (gated)",
    ),
    preset="imagenet",
    positions="axial",
    frames=16,
    side=224,
    slices=True,
    has=(r"embeddings\.register_tokens", r"layer\.0\.attention\.q_proj\.weight"),
    lacks=(r"embeddings\.position_embeddings",),
    ignored=(r"embeddings\.mask_token",),
    renames=(
        (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.register_tokens$", "registers"),
        (r"^layer\.", "blocks."),
        (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
        (r"\.attention\.o_proj\.", ".attn.proj."),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1"),
        (r"\.mlp\.up_proj\.", ".mlp.fc1."),
        (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    ),
    extra={"cls_token": "1 1 C", "registers": "1 * C"},
    heads={(384, 12): 6, (768, 12): 12, (1024, 24): 16},
    eps=1e-5,
    layer_scale=True,
    key_bias=False,
    model_type="dinov3_vit",
    config={
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "num_channels": 3,
        "query_bias": True,
        "key_bias": False,
        "value_bias": True,
        "proj_bias": True,
        "mlp_bias": True,
        "use_gated_mlp": False,
        "rope_theta": 100.0,
    },
)
"""Source: the fixture hf_slices."""
