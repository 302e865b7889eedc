"""VisionFM's OCT encoder: a ViT-B/16 of iBOT; RETFound's names with another end and preprocessing."""

from extract.encoder.family import Card, Family

VISIONFM = Family(
    name="visionfm",
    card=Card(
        title="VisionFM, ViT-B/16 on OCT B-scans",
        licence="CC BY-NC 4.0",
        commercial=False,
        gated=False,
        citation="Qiu et al., A Multimodal Multitask Vision Foundation Model, NEJM AI 2024",
        weights="github.com/ABILab-CUHK/VisionFM (the OCT file)",
    ),
    preset="visionfm",
    positions="bicubic_offset",
    frames=16,
    slices=True,
    has=("cls_token", r"blocks\.0\.attn\.qkv\.weight", r"head\.(mlp|last_layer).*|masked_embed"),
    lacks=(r"decoder_.*", "mask_token", r".*\.ls1\.gamma", "register_tokens", "pos_embed_spatial"),
    keys=("teacher", ""),
    context=("student",),
    target=("teacher",),
    ignored=("masked_embed", r"head\..*"),
    extra={"cls_token": "1 1 C", "pos_embed": "1 * C"},
    heads={(768, 12): 12},
    end="every",
)
"""Source: the fixture visionfm (ABILab-CUHK/VisionFM 25c4695)."""
