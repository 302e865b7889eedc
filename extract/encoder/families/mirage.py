"""MIRAGE: a multimodal ViT whose B-scan adapter takes one channel; no final norm. Own arithmetic, no line of theirs."""

from extract.encoder.family import Card, Family

MIRAGE = Family(
    name="mirage",
    card=Card(
        title="MIRAGE, ViT-B and L/32 on OCT B-scans and SLO",
        licence="CC BY-NC-ND 4.0",
        commercial=False,
        gated=False,
        citation="Morano et al., MIRAGE: Multimodal foundation model and benchmark for comprehensive retinal OCT, 2025",
        weights="github.com/j-morano/MIRAGE (MIRAGE-Base.pth, MIRAGE-Large.pth)",
    ),
    preset="mirage",
    positions="channels_first",
    frames=16,
    channels=1,
    slices=True,
    has=(r"input_adapters\.bscan\.proj\.weight", "global_tokens"),
    ignored=(r"input_adapters\.(?!bscan\.).*", r"output_adapters\..*"),
    renames=(
        (r"^input_adapters\.bscan\.proj\.", "patch_embed.proj."),
        (r"^input_adapters\.bscan\.pos_emb$", "pos_embed"),
        (r"^encoder\.", "blocks."),
    ),
    extra={"global_tokens": "1 * C", "pos_embed": "1 C * *"},
    heads={(768, 12): 12, (1024, 24): 16},
    end="none",
)
"""Source: the fixture mirage (j-morano/MIRAGE cd7ae4f, MIRAGELight, which keeps the order of the patches)."""
