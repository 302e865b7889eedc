"""Stored frames as single pictures: how encoders of photographs, B-scans and video clips were fed."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped
from PIL import Image
from torch.nn.functional import interpolate

from extract.errors import PreprocessError
from extract.preset import Preset

MOST_PIXELS = 1 << 26  # of one resized frame: a longer side than that belongs to no scan


def even_frames(stored: int, wanted: int) -> Int[np.ndarray, "wanted"]:
    """Give numbers of frames, ascending and evenly spaced, the centre one (stored // 2) among them.

    Frame k is floor(stored / 2 + (k - wanted // 2) * stored / wanted); frames repeat where more are wanted than stored.
    """
    steps = np.arange(wanted) - wanted // 2
    return (stored * wanted + 2 * steps * stored) // (2 * wanted)


def resize_pictures(
    frames: Sequence[Shaped[np.ndarray, "rows columns"]], preset: Preset, size: tuple[int, int], source: str
) -> Float32[np.ndarray, "D H W"]:
    """Resize, crop, scale and standardise frame by frame. Raises PreprocessError for a frame of an absurd shape."""
    out = np.empty((len(frames), *size), np.float32)
    for target, frame in zip(out, frames, strict=True):
        fitted = fit_size(frame.shape, preset, size)
        if fitted[0] * fitted[1] > MOST_PIXELS:
            raise PreprocessError(
                f"{source}: a frame of {frame.shape[0]} x {frame.shape[1]} is too narrow to be cropped"
            )
        top, left = crop_start(fitted, size)
        target[...] = _resize(frame, fitted, preset)[top : top + size[0], left : left + size[1]]
        if preset.scale is not None:
            np.divide(target, np.float32(preset.scale), out=target)
        if preset.per_slice is not None:
            _standardise(target, preset.per_slice)
    return out


def fit_size(stored: Sequence[int], preset: Preset, size: tuple[int, int]) -> tuple[int, int]:
    """Give rows and columns before the centre crop: the aspect is kept, and the crop is covered.

    Source: torchvision's Resize with one number (the longer side is rounded down).
    """
    if preset.crop is None:
        return size
    crop = 1.0 if preset.crop_up_to is not None and max(size) > preset.crop_up_to else preset.crop
    (rows, columns), (height, width) = stored, (int(side / crop) for side in size)
    if height * columns >= width * rows:
        return height, int(height * columns / rows)
    return int(width * rows / columns), width


def crop_start(fitted: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Give the first row and column of the centre crop, as torchvision's CenterCrop: halves go to the even number."""
    return round((fitted[0] - size[0]) / 2), round((fitted[1] - size[1]) / 2)


def _resize(
    frame: Shaped[np.ndarray, "rows columns"], size: tuple[int, int], preset: Preset
) -> Float32[np.ndarray, "H W"]:
    if preset.antialias:
        grey = frame if frame.dtype == np.uint8 else frame.astype(np.float32)
        kind = Image.Resampling.BICUBIC if preset.resize == "bicubic" else Image.Resampling.BILINEAR
        return np.asarray(Image.fromarray(grey).resize(size[::-1], kind), np.float32)
    values = torch.from_numpy(frame.astype(np.float32))[None, None]
    return interpolate(values, size, mode=preset.resize, align_corners=False)[0, 0].numpy()


def _standardise(picture: Float32[np.ndarray, "H W"], how: str) -> None:
    """Standardise in place; a constant picture becomes zeros."""
    start = picture.min() if how == "min_max" else picture.mean(dtype=np.float64)
    spread = np.ptp(picture) if how == "min_max" else picture.std(dtype=np.float64)
    picture -= np.float32(start)
    if spread > 0:
        picture /= np.float32(spread)
