"""One scan and one encoder from Python: what the encoder sees of a file, and what it says of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from embeddings_store.command_line import parse_words
from embeddings_store.errors import UsageError

if TYPE_CHECKING:
    from extract.encoder.encoder import Encoder


def load_encoder(source: str | Path = "random:tiny", **options: Any) -> "Encoder":
    """Load a frozen encoder: a checkpoint file, "random:tiny", "random:base" or "onnx:FILE"; without foreign code.

    options: those of ``extract-embeddings`` for the encoder: family as ``encoder``, image_size, num_heads,
    interpolate, checkpoint_key. Raises OctProbeError for a file that is no encoder, or an option that it cannot have.

    >>> import octprobe
    >>> encoder = octprobe.load_encoder("random:tiny")
    >>> encoder.architecture.image_size, encoder.architecture.width
    ((32, 96, 96), 192)
    """
    from extract.encoder.open import open_encoder
    from extract.encoder_options import EncoderChoice, stands_alone

    named = {"encoder": str(source)} if stands_alone(str(source)) else {"checkpoint": Path(source)}
    if twice := sorted(named.keys() & options.keys()):
        raise UsageError(f"load_encoder: {twice[0]} is what {str(source)!r} says already; leave one of them out")
    return open_encoder(**parse_words(EncoderChoice, **named, **options).arguments())


def preprocess(
    scan: str | Path, *, preset: str = "pretrain", image_size: tuple[int, int, int] | None = None, **options: Any
) -> Float32[np.ndarray, "C D H W"]:
    """Read a scan and return what an encoder would see of it, float32 [C, D, H, W].

    preset: a name or a YAML file. image_size: D, H, W in voxels; None: the preset's own. options: those of
    ``extract-embeddings preprocess``, such as crop or volume. Raises OctProbeError for a file that is no usable scan.

    >>> import octprobe
    >>> octprobe.preprocess("scan.dcm", image_size=(32, 96, 96)).shape
    (1, 32, 96, 96)
    """
    from extract.file_options import PreparedScan
    from extract.single import preprocessed

    given = {"file": Path(scan), "preset": preset, "image_size": image_size}
    return preprocessed(parse_words(PreparedScan, **given, **options))


def encode(
    images: Float32[np.ndarray, "B C D H W"] | Float32[np.ndarray, "C D H W"],
    encoder: "Encoder",
    *,
    device: str = "auto",
    precision: str = "fp32",
) -> Float32[np.ndarray, "B N C"]:
    """Return the patch tokens of the last layer of preprocessed volumes, float32 [B, N, C]; one volume at a time.

    Raises OctProbeError where the volumes are of another size than the encoder's, or are not finite.

    >>> import octprobe
    >>> image = octprobe.preprocess("scan.dcm", image_size=(32, 96, 96))
    >>> octprobe.encode(image, octprobe.load_encoder("random:tiny"), device="cpu").shape
    (1, 288, 192)
    """
    from extract.device.select import open_device
    from extract.encode import BatchEncoder
    from extract.single import check_images

    batch = check_images("encode", images, encoder)
    batch_encoder = BatchEncoder(encoder, open_device(device, precision))
    return np.concatenate([batch_encoder.all_tokens(one[None])[0] for one in batch])
