"""OCTCube: a 3D ViT-L whose features are the last block's MLP branch, without the residual."""

from extract.encoder.family import Card, Family

OCTCUBE = Family(
    name="octcube",
    card=Card(
        title="OCTCube, 3D ViT-L on OCT volumes",
        licence="code BSD-2-Clause; weights as their Hugging Face card says",
        commercial=None,
        gated=False,
        citation="Liu et al., OCTCube-M: A 3D multimodal optical coherence tomography foundation model, 2024",
        weights="Hugging Face zucksliu/OCTCubeM",
    ),
    preset="octcube",
    positions="factorised",
    frames=60,
    side=256,
    channels=1,
    has=("pos_embed_spatial", "pos_embed_temporal"),
    lacks=(r"blocks\.\d+\.attn\.q\..*",),  # the variant without flash attention, whose blocks are ordinary ones
    ignored=("mask_token", r"decoder_.*", r"head\..*"),
    renames=((r"\.mixer\.Wqkv\.", ".attn.qkv."), (r"\.mixer\.out_proj\.", ".attn.proj.")),
    extra={
        "cls_token": "1 1 C",
        "pos_embed_class": "1 1 C",
        "pos_embed_spatial": "1 * C",
        "pos_embed_temporal": "1 * C",
        "high_res_patch_embed.proj.weight?": "C * * * *",
        "high_res_patch_embed.proj.bias?": "C",
    },
    heads={(768, 12): 12, (1024, 24): 16},
    end="branch",
)
"""Source: the fixture octcube (ZucksLiu/OCTCubeM a49ed8b; flash-attention 2.5.2 returns branch and residual apart)."""
