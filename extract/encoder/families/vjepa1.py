"""V-JEPA 1 (Meta): fixed 3D sine-cosine positions are added to tubelets of two frames; the names are V-JEPA 2's."""

from extract.encoder.family import Card, Family

VJEPA1 = Family(
    name="vjepa1",
    card=Card(
        title="V-JEPA 1, ViT-L and ViT-H on video",
        licence="CC BY-NC 4.0",
        commercial=False,
        gated=False,
        citation="Bardes et al., Revisiting Feature Prediction for Learning Visual Representations from Video, 2024",
        weights="github.com/facebookresearch/jepa (vitl16.pth.tar, vith16.pth.tar, vith16-384.pth.tar)",
    ),
    preset="vjepa2",
    positions="sincos_3d",
    frames=16,
    has=(r"patch_embed\.proj\.weight", r"pos_embed", r"blocks\.0\.attn\.qkv\.weight"),
    lacks=("cls_token", r"norms_block\..*", r".*\.ls1\.gamma"),
    keys=("target_encoder", "encoder", ""),
    context=("encoder", ""),
    target=("target_encoder", ""),
    ignored=(r"fc_norm\..*",),
    extra={"pos_embed": "1 * C"},
    heads={(1024, 24): 16, (1280, 32): 16},
    published_rows=frozenset({1568, 4608}),
)
"""Source: the fixture vjepa1_pt (facebookresearch/jepa 51c59d5; the evaluations read target_encoder)."""
