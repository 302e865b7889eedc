"""One file: what the encoder would see of it, and what it says."""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from embeddings_store.errors import UsageError
from embeddings_store.terminal.console import say
from extract.all_slices import with_frames_of
from extract.device.select import open_device
from extract.dicom.reader import read_dicom
from extract.encode import BatchEncoder
from extract.encoder.encoder import Encoder
from extract.encoder.open import open_encoder
from extract.encoder.own_preset import note_on_preset, preset_of, require_channels
from extract.errors import IncompleteConcatenation, PreprocessError
from extract.file_options import EncodeOptions, PreprocessOptions
from extract.options import read_classes
from extract.parts import parts_beside
from extract.preprocess import frame_chooser, preprocess
from extract.preset import Recipe
from extract.regular_file import require_regular


def preprocess_file(options: PreprocessOptions) -> str:
    """Write the float32 [C, D, H, W] array of a DICOM file; say what was written. Raises a VolumeError."""
    allowed = read_classes(options.allow_sop_class)
    data = _read_bytes(options.file)
    options = with_frames_of(options, data, allowed)
    preset = options.prepared(None, options.image_size)
    size = options.image_size or (options.slice_count or preset.image_size[0], *preset.image_size[1:])
    return _save(options.out, _preprocessed(options.file, data, Recipe(preset, size), allowed))


def encode_file(options: EncodeOptions) -> str:
    """Write the float32 [B, N, C] tokens of a DICOM file or of a preprocessed array; say what was written."""
    file, allowed = options.file, read_classes(options.allow_sop_class)
    if file.suffix == ".npy":
        images = _load_array(file)
        encoder = open_encoder(**(options.arguments() | {"image_size": options.image_size or images.shape[2:]}))
        _check_size(file, images, encoder)
    else:
        data = _read_bytes(file)
        options = with_frames_of(options, data, allowed)
        encoder = open_encoder(**options.arguments(), slices=options.slice_count)
        preset = preset_of(encoder, options)
        if note := note_on_preset(encoder, preset.name):
            say(f"note: {note}")
        images = _preprocessed(file, data, Recipe(preset, encoder.architecture.image_size), allowed)[None]
    batch_encoder = BatchEncoder(encoder, open_device(options.device, options.precision))
    if options.prefix_out is not None and not encoder.architecture.prefix:
        raise UsageError(f"--prefix-out: {encoder.source} ({encoder.architecture.family}) has no prefix tokens")
    seen = [batch_encoder.all_tokens(image[None]) for image in images]
    written = _save(options.out, np.concatenate([tokens for tokens, _ in seen]))
    if options.prefix_out is not None:
        prefixes = [prefix for _, prefix in seen if prefix is not None]
        written += f"\n{_save(options.prefix_out, np.concatenate(prefixes))}"
    return written


def _preprocessed(file: Path, data: bytes, recipe: Recipe, allowed: frozenset[str]) -> Float32[np.ndarray, "C D H W"]:
    preset, size = recipe.preset, recipe.image_size
    read = partial(read_dicom, frames=frame_chooser(preset, size[0]), allowed=allowed)
    try:
        volume = read(data)
    except IncompleteConcatenation:
        others = parts_beside(file, data)
        volume = read([data, *others])
        say(f"note: the volume was joined from {1 + len(others)} parts in the folder of {file.name}")
    return preprocess(volume, preset, size)


def _load_array(file: Path) -> Float32[np.ndarray, "B C D H W"]:
    """Read a preprocessed array; its shape may say the image size that a checkpoint leaves open."""
    try:
        require_regular(file)
        array: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise UsageError(f"{file}: expected a .npy array, got a file that cannot be read as one ({error})") from error
    images = array[None] if array.ndim == 4 else array
    if images.dtype != np.float32 or images.ndim != 5 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise UsageError(
            f"{file}: expected preprocessed float32 [C,D,H,W] or [B,C,D,H,W], C 1 or 3, got {array.dtype} "
            f"{list(array.shape)}"
        )
    if not np.isfinite(images).all():
        raise PreprocessError(f"{file}: expected finite values, got NaN or infinity")
    return images


def _check_size(file: Path, images: Float32[np.ndarray, "B C D H W"], encoder: Encoder) -> None:
    image_size = encoder.architecture.image_size
    require_channels(encoder, images.shape[1], str(file))
    if images.shape[2:] != image_size:
        raise UsageError(f"{file}: expected volumes of {list(image_size)} voxels, got {list(images.shape[2:])}")


def _read_bytes(file: Path) -> bytes:
    try:
        require_regular(file)
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error


def _save(out: Path, array: np.ndarray) -> str:
    """Write aside, publish by rename, so that a half-written array never has the name."""
    aside = out.with_name(f".{out.name}.part")
    try:
        with aside.open("wb") as file:
            np.save(file, array)
        aside.replace(out)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UsageError(f"--out {out}: expected a place that can be written, got {error.strerror}") from error
    return f"{out}: {array.dtype} {list(array.shape)}, mean {array.mean():.4f}, std {array.std():.4f}"
