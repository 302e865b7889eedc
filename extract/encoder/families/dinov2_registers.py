"""DINOv2 with registers, whose position table is resized with antialiasing."""

from extract.encoder.families.dinov2 import CONFIG, HEADS, IGNORED, RENAMES
from extract.encoder.family import Card, Family

DINOV2_REGISTERS = Family(
    name="dinov2_registers",
    card=Card(
        title="DINOv2 with registers, ViT-S, B and L/14",
        licence="Apache-2.0",
        commercial=True,
        gated=False,
        citation="Darcet et al., Vision Transformers Need Registers, ICLR 2024",
        weights="Hugging Face facebook/dinov2-with-registers-*",
    ),
    preset="imagenet",
    positions="bicubic_antialias",
    frames=16,
    side=224,
    slices=True,
    has=(r"(embeddings\.)?register_tokens", r".*\.(ls1\.gamma|layer_scale1\.lambda1)", ".*pos(ition)?_embed.*"),
    keys=("teacher", "", "dinov2_with_registers"),
    context=("student",),
    target=("teacher",),
    ignored=IGNORED,
    renames=RENAMES,
    extra={"cls_token": "1 1 C", "registers": "1 * C", "pos_embed": "1 * C"},
    heads=HEADS,
    layer_scale=True,
    model_type="dinov2_with_registers",
    config=CONFIG,
)
"""Source: the fixture hf_slices."""
