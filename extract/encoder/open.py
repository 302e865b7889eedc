"""Where an encoder comes from: a checkpoint, or a random start."""

from pathlib import Path

from embeddings_store.errors import UsageError
from embeddings_store.space import Grid
from embeddings_store.terminal.console import say
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.foreign import describe_foreign
from extract.encoder.random_init import random_encoder
from extract.encoder_options import Which


def open_encoder(
    *,
    checkpoint: Path | None = None,
    encoder: str | None = None,
    heads: int | None = None,
    image_size: Grid | None = None,
    interpolate: bool = False,
    which: Which = "context",
) -> Encoder:
    """Open exactly one of ``checkpoint`` and ``encoder`` ("random:tiny", "random:base", with ",seed=N").

    which: the context or the target encoder of a checkpoint.
    A file that names foreign code is opened with a warning on stderr: none of it is run.
    Raises UsageError for none, both, or an option that only a checkpoint has; CheckpointError for a refused file.
    """
    if checkpoint is not None and encoder is None:
        opened = load_checkpoint(checkpoint, heads=heads, image_size=image_size, interpolate=interpolate, which=which)
        if warning := describe_foreign(opened.facts):
            say(f"warning: {opened.source}: {warning}")
        return opened
    if encoder is None or checkpoint is not None:
        raise UsageError("expected exactly one of --checkpoint FILE and --encoder random:tiny|random:base")
    if heads is not None or interpolate or which != "context":
        raise UsageError(
            "--heads, --interpolate and --which belong to --checkpoint; a random encoder needs none of them"
        )
    return random_encoder(encoder, image_size)
