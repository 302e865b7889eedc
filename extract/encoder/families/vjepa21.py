"""V-JEPA 2.1 (Meta): interleaved rotary positions, a vector for video or image, and a norm for each of four depths."""

from extract.encoder.family import Card, Family

VJEPA21 = Family(
    name="vjepa21",
    card=Card(
        title="V-JEPA 2.1, ViT-B, L, g and G on video and images",
        licence="MIT, in parts Apache-2.0",
        commercial=True,
        gated=False,
        citation="V-JEPA 2.1, Meta FAIR, 2026 (facebookresearch/vjepa2)",
        weights="github.com/facebookresearch/vjepa2 (vjepa2_1_vitb_dist_vitG_384.pt, ...)",
    ),
    preset="vjepa2",
    positions="rotary_21",
    frames=64,
    side=384,
    has=(r"norms_block\.3\.weight", "video_mod_embed"),
    lacks=("cls_token",),
    keys=("ema_encoder", "target_encoder", ""),
    context=("encoder",),
    target=("ema_encoder", "target_encoder"),
    ignored=(r"norms_block\.[0-2]\..*",),
    renames=((r"^norms_block\.3\.", "norm."),),
    extra={
        "video_mod_embed": "1 1 C",
        "img_mod_embed": "1 1 C",
        "patch_embed_img.proj.weight": "C 3 1 P P",
        "patch_embed_img.proj.bias": "C",
    },
    heads={(768, 12): 12, (1024, 24): 16, (1408, 40): 22, (1664, 48): 26},
)
"""Source: the fixture vjepa21_pt. The last of the four norms is the final one."""
