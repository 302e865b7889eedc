"""One file: what the encoder would see of it, and what it says."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

from embeddings_store.errors import UsageError
from embeddings_store.numpy_file import read_header, read_numpy
from embeddings_store.publish import published
from embeddings_store.regular_file import require_regular
from embeddings_store.terminal.console import say
from extract.device.select import open_device
from extract.dicom.reader import FrameChooser
from extract.encode import BatchEncoder
from extract.encoder.encoder import Encoder
from extract.encoder.open import open_encoder
from extract.encoder.own_preset import note_on_preset, preset_of, require_channels
from extract.errors import PreprocessError
from extract.file_options import EncodeOptions, PreparedScan, PreprocessOptions, ScanChoice
from extract.options import read_classes
from extract.preprocess import frame_chooser, preprocess
from extract.preset import Recipe
from extract.readers.local import read_local
from extract.volume import Volume

C = TypeVar("C", PreparedScan, EncodeOptions)


def preprocess_file(options: PreprocessOptions) -> str:
    """Write the float32 [C, D, H, W] array of a scan; say what was written. Raises a VolumeError."""
    return _save(options.out, preprocessed(options))


def preprocessed(options: PreparedScan) -> Float32[np.ndarray, "C D H W"]:
    """Do the same in memory. Raises a VolumeError, UsageError."""
    options = _with_frames(options, options.file)
    preset = options.prepared(None, options.image_size)
    size = options.image_size or (options.slice_count or preset.image_size[0], *preset.image_size[1:])
    return _preprocessed(options.file, options, Recipe(preset, size))


def encode_file(options: EncodeOptions) -> str:
    """Write the float32 [B, N, C] tokens of a scan or of a preprocessed array; say what was written."""
    file = options.file
    if _is_preprocessed(file):
        images = _load_array(file)
        encoder = open_encoder(**(options.arguments() | {"image_size": options.image_size or images.shape[2:]}))
        check_images(str(file), images, encoder)
    else:
        options = _with_frames(options, file)
        encoder = open_encoder(**options.arguments(), slices=options.slice_count)
        preset = preset_of(encoder, options)
        if note := note_on_preset(encoder, preset.name):
            say(f"note: {note}")
        images = _preprocessed(file, options, Recipe(preset, encoder.architecture.image_size))[None]
    batch_encoder = BatchEncoder(encoder, open_device(options.device, options.precision))
    if options.prefix_out is not None and not encoder.architecture.prefix:
        raise UsageError(f"--prefix-out: {encoder.source} ({encoder.architecture.family}) has no prefix tokens")
    seen = [batch_encoder.all_tokens(image[None]) for image in images]
    written = _save(options.out, np.concatenate([tokens for tokens, _ in seen]))
    if options.prefix_out is not None:
        prefixes = [prefix for _, prefix in seen if prefix is not None]
        written += f"\n{_save(options.prefix_out, np.concatenate(prefixes))}"
    return written


def _preprocessed(file: Path, choice: ScanChoice, recipe: Recipe) -> Float32[np.ndarray, "C D H W"]:
    chooser = frame_chooser(recipe.preset, recipe.image_size[0])
    return preprocess(_read(file, choice, chooser), recipe.preset, recipe.image_size)


def _read(file: Path, choice: ScanChoice, frames: FrameChooser | None) -> Volume:
    allowed = read_classes(choice.allow_sop_class)
    return read_local(file, choice.read_options(), volume=choice.volume, frames=frames, allowed=allowed)


def _with_frames(options: C, file: Path) -> C:
    """Give the options, with the number of frames of this scan where all are asked for."""
    if options.slices != "all" or options.frames_of_all is not None:
        return options
    return replace(options, frames_of_all=_read(file, options, lambda _: np.arange(1)).frame_count)


def _is_preprocessed(file: Path) -> bool:
    """Tell an array for the encoder from a scan in .npy: it has more than three axes, and is float32."""
    if file.suffix != ".npy":
        return False
    try:
        require_regular(file)
        with file.open("rb") as stream:
            shape, _, dtype = read_header(stream)
    except (OSError, ValueError, EOFError):
        return True  # what cannot be read is refused as one
    return bool(len(shape) > 3 and dtype == np.float32)


def _load_array(file: Path) -> Float32[np.ndarray, "B C D H W"]:
    """Read a preprocessed array; its shape may say the image size that a checkpoint leaves open."""
    try:
        array: np.ndarray = read_numpy(file)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        reason = "it holds no plain numbers" if "pickle" in str(error) else error  # NumPy advises to load it unsafely
        raise UsageError(f"{file}: expected a .npy array, got a file that cannot be read as one ({reason})") from error
    return check_images(str(file), array)


def check_images(what: str, array: np.ndarray, encoder: Encoder | None = None) -> Float32[np.ndarray, "B C D H W"]:
    """Return preprocessed volumes that an encoder can take; one alone becomes a batch of it.

    Raises: UsageError for another form or size than the encoder's, PreprocessError for values that are not finite.
    """
    images = array[None] if array.ndim == 4 else array
    if images.dtype != np.float32 or images.ndim != 5 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise UsageError(
            f"{what}: expected preprocessed float32 [C,D,H,W] or [B,C,D,H,W], C 1 or 3, got {array.dtype} "
            f"{list(array.shape)}"
        )
    if not np.isfinite(images).all():
        raise PreprocessError(f"{what}: expected finite values, got NaN or infinity")
    if encoder is not None:
        require_channels(encoder, images.shape[1], what)
        if images.shape[2:] != (size := encoder.architecture.image_size):
            raise UsageError(f"{what}: expected volumes of {list(size)} voxels, got {list(images.shape[2:])}")
    return images


def _save(out: Path, array: np.ndarray) -> str:
    """Publish the array whole."""
    try:
        with published(out) as aside, aside.open("wb") as file:
            np.save(file, array)
    except OSError as error:
        raise UsageError(f"--out {out}: expected a place that can be written, got {error.strerror}") from error
    return f"{out}: {array.dtype} {list(array.shape)}, mean {array.mean():.4f}, std {array.std():.4f}"
