"""V-JEPA 2 (Meta): rotary positions along time, rows and columns; as Hugging Face folders and as official .pt files."""

from extract.encoder.family import Card, Family
from extract.encoder.file_form import as_hugging_face

VJEPA2 = Family(
    name="vjepa2",
    card=Card(
        title="V-JEPA 2, ViT-L, H and g on video",
        licence="MIT, in parts Apache-2.0",
        commercial=True,
        gated=False,
        citation="Assran et al., V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction, 2025",
        weights="github.com/facebookresearch/vjepa2 (vitl.pt, ...), Hugging Face facebook/vjepa2-*",
    ),
    preset="vjepa2",
    positions="rotary",
    frames=64,
    side=256,
    has=(r"(embeddings\.patch_embeddings|patch_embed)\.proj\.weight", r"(blocks|layer)\.0\.norm1\.weight"),
    lacks=("cls_token", r"norms_block\..*", r".*\.ls1\.gamma"),
    keys=("encoder", "target_encoder", ""),
    context=("encoder", ""),
    target=("target_encoder",),
    ignored=("pos_embed",),
    renames=(
        (r"embeddings\.patch_embeddings\.", "patch_embed."),
        (r"^layer\.", "blocks."),
        (r"^layernorm\.", "norm."),
        (r"\.attention\.proj\.", ".attn.proj."),
        (r"\.attention\.query\.", ".attn.q."),
        (r"\.attention\.key\.", ".attn.k."),
        (r"\.attention\.value\.", ".attn.v."),
    ),
    heads={(1024, 24): 16, (1280, 32): 16, (1408, 40): 22},
    model_type="vjepa2",
    config={"hidden_act": "gelu", "in_chans": 3, "layer_norm_eps": 1e-6, "qkv_bias": True},
    published_rows=frozenset({2048, 8192, 18432}),
    asks=True,
    file_form=as_hugging_face,
)
"""Source: the fixtures vjepa2_hf and vjepa2_pt (facebookresearch/vjepa2 c2963a4; hub and demo read encoder)."""
