"""One file: what the encoder would see of it, and what it says."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from embeddings_store.console import say
from embeddings_store.errors import UsageError
from embeddings_store.publish import published
from embeddings_store.space import Grid
from extract.device.select import open_device
from extract.dicom.reader import read_dicom
from extract.encode import BatchEncoder
from extract.encoder.open import open_encoder
from extract.encoder.own_preset import note_on_preset, require_own_preset
from extract.errors import PreprocessError
from extract.file_options import EncodeOptions, PreprocessOptions
from extract.options import read_classes
from extract.preprocess import frame_chooser, preprocess
from extract.preset import load_preset


def preprocess_file(options: PreprocessOptions) -> str:
    """Write the float32 [1, D, H, W] array of a DICOM file; say what was written. Raises a VolumeError."""
    allowed = read_classes(options.allow_sop_class)
    return _save(options.out, _preprocessed(options.file, options.preset, options.image_size, allowed))


def encode_file(options: EncodeOptions) -> str:
    """Write the float32 [B, N, C] tokens of a DICOM file or of a preprocessed array; say what was written."""
    file, allowed = options.file, read_classes(options.allow_sop_class)
    if file.suffix == ".npy":
        images = _load_array(file)
        encoder = open_encoder(**(options.arguments() | {"image_size": options.image_size or images.shape[2:]}))
        _check_size(file, images, encoder.architecture.image_size)
    else:
        encoder = open_encoder(**options.arguments())
        require_own_preset(encoder, options.preset)
        if note := note_on_preset(encoder, load_preset(options.preset).name):
            say(f"note: {note}")
        images = _preprocessed(file, options.preset, encoder.architecture.image_size, allowed)[None]
    batch_encoder = BatchEncoder(encoder, open_device(options.device, options.precision))
    tokens = np.concatenate([batch_encoder.tokens(image[None]) for image in images])
    return _save(options.out, tokens)


def _preprocessed(
    file: Path, preset_name: str | None, image_size: Grid, allowed: frozenset[str]
) -> Float32[np.ndarray, "1 D H W"]:
    preset = load_preset(preset_name)
    volume = read_dicom(_read_bytes(file), frames=frame_chooser(preset, image_size[0]), allowed=allowed)
    return preprocess(volume, preset, image_size)


def _load_array(file: Path) -> Float32[np.ndarray, "B 1 D H W"]:
    """Read a preprocessed array; its shape may say the image size that a checkpoint leaves open."""
    try:
        array: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: expected a .npy array, got a file that cannot be read as one ({error})") from error
    images = array[None] if array.ndim == 4 else array
    if images.dtype != np.float32 or images.ndim != 5 or images.shape[1] != 1 or 0 in images.shape:
        raise UsageError(
            f"{file}: expected preprocessed float32 [1,D,H,W] or [B,1,D,H,W], got {array.dtype} {list(array.shape)}"
        )
    if not np.isfinite(images).all():
        raise PreprocessError(f"{file}: expected finite values, got NaN or infinity")
    return images


def _check_size(file: Path, images: Float32[np.ndarray, "B 1 D H W"], image_size: Grid) -> None:
    if images.shape[2:] != image_size:
        raise UsageError(f"{file}: expected volumes of {list(image_size)} voxels, got {list(images.shape[2:])}")


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: expected a file, got {error.strerror}") from error


def _save(out: Path, array: np.ndarray) -> str:
    """Publish the array whole."""
    try:
        with published(out) as aside, aside.open("wb") as file:
            np.save(file, array)
    except OSError as error:
        raise UsageError(f"--out {out}: expected a place that can be written, got {error.strerror}") from error
    return f"{out}: {array.dtype} {list(array.shape)}, mean {array.mean():.4f}, std {array.std():.4f}"
