"""The project's own encoders: a learned position table over voxel patches, one grey channel."""

from extract.encoder.family import Card, Family

VJEPA3D = Family(
    name="vjepa3d",
    card=Card(
        title="V-JEPA on OCT volumes, 3D patches",
        licence=None,
        commercial=False,
        gated=False,
        citation=None,
        weights="your own training run, or an export of doctor --export",
    ),
    preset="pretrain",
    positions="table_3d",
    frames=None,
    channels=1,
    has=(r"patch_embed\.proj\.weight|pos_embed",),
    lacks=("cls_token", "prefix", r"pos_embed_spatial", r"norms_block\..*", r".*\.ls1\.gamma"),
    keys=("context_encoder", ""),
    context=("context_encoder", ""),
    target=("target_encoder.encoder",),
    extra={"pos_embed": "1 * C"},
    eps=1e-5,
    asks=True,
    teacher_follows=False,
)
"""Source of the numbers: the fixture vjepa3d_tiny, in float32 and float64."""
