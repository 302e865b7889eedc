"""RETFound (MAE): a ViT-L/16 on single frames; also UrFound and RetFiner files of the same layout."""

from extract.encoder.family import Card, Family

RETFOUND = Family(
    name="retfound",
    card=Card(
        title="RETFound MAE, ViT-L/16 on OCT B-scans",
        licence="CC BY-NC 4.0",
        commercial=False,
        gated=True,
        citation="Zhou et al., A foundation model for generalizable disease detection from retinal images, Nature 2023",
        weights="Hugging Face YukunZhou/RETFound_mae_natureOCT (gated)",
    ),
    preset="retfound",
    positions="bicubic",
    frames=16,
    slices=True,
    has=("cls_token", r"blocks\.0\.attn\.qkv\.weight", r"decoder_embed\.weight|mask_token"),
    lacks=(r"head\.(mlp|last_layer).*", r".*\.ls1\.gamma", "register_tokens", "pos_embed_spatial", "masked_embed"),
    ignored=("mask_token", r"decoder_.*", r"head\..*", r"fc_norm\..*"),
    extra={"cls_token": "1 1 C", "pos_embed": "1 * C"},
    heads={(768, 12): 12, (1024, 24): 16, (1280, 32): 16},
)
"""Source: the fixture retfound_mae (rmaphoh/RETFound ae9a9ec)."""
