"""Where an encoder comes from: a checkpoint, or a random start."""

from functools import partial
from pathlib import Path

from embeddings_store.errors import UsageError
from embeddings_store.grid import Grid
from embeddings_store.terminal.console import say
from extract.encoder.checkpoint import load_checkpoint
from extract.encoder.encoder import Encoder
from extract.encoder.families import OWN_FAMILIES
from extract.encoder.foreign import describe_foreign
from extract.encoder.onnx_file import open_onnx
from extract.encoder.own_family import attempt, require_family
from extract.encoder.random_init import random_encoder
from extract.encoder_options import ONNX, stands_alone


def open_encoder(
    *,
    checkpoint: Path | None = None,
    encoder: str | None = None,
    heads: int | None = None,
    image_size: Grid | None = None,
    interpolate: bool = False,
    which: str | None = None,
    slices: int | None = None,
) -> Encoder:
    """Open an encoder: a checkpoint, "random:tiny", "random:base" or "onnx:FILE".

    encoder: with a checkpoint its family, None: found out.
    slices: how many frames a family of single B-scans sees, where image_size does not say.
    which: the encoder of a checkpoint that holds several: "context", "target" or a top key; None: the usual one.
    A file that names foreign code is opened with a warning on stderr: none of it is run.
    Raises UsageError for none, both, or an option that only a checkpoint has; CheckpointError for a refused file.
    """
    family = require_family(encoder) if encoder is not None and not stands_alone(encoder) else None
    if checkpoint is not None and (encoder is None or family is not None):
        load = partial(
            load_checkpoint,
            checkpoint,
            family=family.name if family else None,
            heads=heads,
            image_size=image_size,
            interpolate=interpolate,
            which=which,
            slices=slices,
        )
        is_own = encoder is not None and family is not None and family.name in OWN_FAMILIES
        advice = "what the family says does not fit the checkpoint"
        opened = attempt(Path(encoder), load, advice) if encoder is not None and is_own else load()
        if warning := describe_foreign(opened.facts):
            say(f"warning: {opened.source}: {warning}")
        return opened
    if family is not None:
        where = family.card.weights
        raise UsageError(f"--encoder {encoder}: expected its file too, --checkpoint FILE; it comes from {where}")
    if encoder is None or checkpoint is not None:
        raise UsageError(
            "expected --checkpoint FILE (with --encoder FAMILY, see extract-embeddings encoders) or "
            "--encoder random:tiny|random:base"
        )
    if heads is not None or interpolate or which is not None:
        raise UsageError(
            "--num-heads, --interpolate and --checkpoint-key belong to --checkpoint; other encoders need none"
        )
    if encoder.startswith(ONNX):
        return open_onnx(Path(encoder.removeprefix(ONNX)), image_size, slices)
    return random_encoder(encoder, image_size, slices)
