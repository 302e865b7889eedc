"""Volume -> encoder input: the resize stays in the stored type until the frames that it needs are blended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Shaped

from embeddings_store.grid import Grid
from embeddings_store.schema import Intensity
from extract.cut import cut_frames
from extract.errors import NotAVolume, PreprocessError
from extract.intensity import BrightnessSample, measure_stored
from extract.moments import Moments
from extract.pictures import even_frames, resize_pictures
from extract.preset import PRESETS, Preset, load_preset
from extract.resize import Blend, origin_of, plan_blend, resize_slices
from extract.volume import Volume

__all__ = ["PRESETS", "EncoderInput", "Preset", "frame_chooser", "frames_needed", "load_preset", "preprocess"]

NO_RESCALE = (1.0, 0.0)

Room = Callable[[Sequence[int]], Float32[np.ndarray, "..."]]


def plain_room(shape: Sequence[int]) -> Float32[np.ndarray, "..."]:
    """Give memory that no device fetches from."""
    return np.empty(tuple(shape), np.float32)


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """What the encoder sees of a volume, and how bright the volume was before that."""

    image: Float32[np.ndarray, "C D H W"]
    intensity: Intensity


def preprocess(volume: Volume, preset: Preset, image_size: Grid) -> Float32[np.ndarray, "C D H W"]:
    """Make the encoder's input of shape (channels, *image_size) from a volume whose needed frames are decoded.

    With the preset "pretrain" the result equals torch's trilinear interpolate of the whole float32 volume, then a
    z-score, to 1e-5 (fixtures/preprocess). Memory: about the result and a few frames.
    Raises: PreprocessError when the result is not finite, needed frames were not decoded, there are fewer frames than
    slices, or the preset takes 8-bit frames and these are none.
    """
    return preprocess_and_measure(volume, preset, image_size).image


def preprocess_and_measure(volume: Volume, preset: Preset, image_size: Grid, room: Room = plain_room) -> EncoderInput:
    """Do the same, and measure the brightness on the way. room: gives the memory that the image is made in.

    The brightness is of the resized volume in stored units: before rescale, and before any other step of the preset
    but its mask and margins, so that it is the same for every preset. Where a preset changes values before the resize,
    or takes frames as pictures, the stored frames (those that it takes) are resized a second time for it.
    """
    volume = cut_frames(volume, preset)
    if volume.frame_count == 1 and image_size[0] > 1:
        raise NotAVolume(
            f"{volume.source}: expected a volume, got one picture, and the encoder reads {image_size[0]} slices: take "
            "an encoder of single slices (--slices 1), or leave pictures out"
        )
    if preset.scale is not None and volume.voxels.dtype != np.uint8:
        raise PreprocessError(
            f"{volume.source}: preset {preset.name!r} takes 8-bit frames, got {volume.voxels.dtype}; give a preset of "
            "your own (.yaml) with the same steps, and min_max: true in place of scale"
        )
    at_once = room if preset.channels == 1 and preset.mean is None else plain_room
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is an error of this volume, below
        if preset.frames == "even":
            image, intensity = _pictures(volume, preset, image_size)
        elif preset.needs_all_frames:
            values = _change_values(volume, preset)
            image, _ = _resize(values, plan_blend(len(values), image_size[0]), image_size, preset, NO_RESCALE, at_once)
            intensity = measure_stored(
                volume.voxels, _decoded_slots(volume, plan_blend(volume.frame_count, image_size[0])), image_size
            )
        else:
            rescale = volume.rescale if preset.rescale else NO_RESCALE
            blend = _decoded_slots(volume, plan_blend(volume.frame_count, image_size[0]))
            image, sample = _resize(volume.voxels, blend, image_size, preset, rescale, at_once)
            intensity = sample.measure()
    if image is None:
        raise PreprocessError(f"{volume.source}: preset {preset.name!r} gives values that are not finite")
    return EncoderInput(_channels(image, preset, room), intensity)


def frames_needed(frame_count: int, depth: int) -> Int[np.ndarray, "k"]:
    """Give the stored frames, ascending, that an interpolation to this depth touches: at most 2 x depth of them."""
    return plan_blend(frame_count, depth).frames


def frame_chooser(preset: Preset, depth: int) -> Callable[[int], Int[np.ndarray, "k"]] | None:
    """Give what read_dicom takes as ``frames``: None, all of them, for presets that look at every voxel."""
    if preset.needs_all_frames:
        return None
    if preset.slices == "all":
        return np.arange
    if preset.frames == "even":
        return lambda frame_count: np.unique(even_frames(frame_count, depth))
    return lambda frame_count: frames_needed(frame_count, depth)


def _pictures(
    volume: Volume, preset: Preset, image_size: Grid
) -> tuple[Float32[np.ndarray, "D H W"] | None, Intensity]:
    """Take stored frames as they are, each resized by itself; None in place of what is not finite."""
    depth, count = image_size[0], volume.frame_count
    if preset.slices is not None and (count < depth or (preset.slices == "all" and count != depth)):
        raise PreprocessError(
            f"{volume.source}: expected {'exactly' if preset.slices == 'all' else 'at least'} {depth} frames for "
            f"{depth} slices, got {count}; frames are never repeated: take --slices {count}, or leave the volume out"
        )
    chosen = even_frames(count, depth)
    blend = _decoded_slots(volume, Blend(chosen, chosen, np.zeros(depth, np.float32)))
    frames = _change_values(volume, preset) if preset.needs_all_frames else volume.voxels
    image = resize_pictures([frames[slot] for slot in blend.lower], preset, image_size[1:], volume.source)
    intensity = measure_stored(volume.voxels, blend, image_size)
    moments = Moments()
    moments.add(image)
    if preset.z_score:
        _standardise(image, moments)
    return image if moments.fit_float32() else None, intensity


def _channels(image: Float32[np.ndarray, "D H W"], preset: Preset, room: Room) -> Float32[np.ndarray, "C D H W"]:
    """Copy a grey volume to every channel, and standardise each as the preset says."""
    if preset.scale is not None and preset.frames == "blend":
        image /= np.float32(preset.scale)
    if preset.mean is None or preset.std is None:
        if preset.channels == 1:
            return image[None]
        copies = [image] * preset.channels
    else:
        moments = zip(preset.mean, preset.std, strict=True)
        copies = [(image - np.float32(mean)) / np.float32(std) for mean, std in moments]
    return np.stack(copies, out=room((len(copies), *image.shape)))


def _decoded_slots(volume: Volume, blend: Blend) -> Blend:
    """Turn frame numbers into places in volume.voxels."""
    wanted = blend.frames
    if not np.isin(wanted, volume.frame_numbers).all():
        raise PreprocessError(
            f"{volume.source}: a depth of {len(blend.lower)} needs {len(wanted)} frames that were not all decoded"
        )
    lower = np.searchsorted(volume.frame_numbers, blend.lower)
    upper = np.searchsorted(volume.frame_numbers, blend.upper)
    return Blend(lower, upper, blend.weight)


def _resize(
    frames: Shaped[np.ndarray, "n rows columns"],
    blend: Blend,
    image_size: Grid,
    preset: Preset,
    rescale: tuple[float, float],
    room: Room,
) -> tuple[Float32[np.ndarray, "D H W"] | None, BrightnessSample]:
    """Resize, rescale and standardise, slice by slice; None in place of what is not finite."""
    resized = room(image_size)
    moments, sample, origin = Moments(), BrightnessSample(image_size), origin_of(frames)
    slope, intercept = np.float32(rescale[0]), np.float32(rescale[1])
    for planes in resize_slices(frames, blend, resized):
        sample.add(planes, origin)
        if rescale != NO_RESCALE:
            np.multiply(planes, slope, out=planes)
        if not preset.z_score:  # which would take away whatever is added to every voxel
            np.add(planes, origin * slope + intercept, out=planes)
        moments.add(planes)
    if not moments.fit_float32():
        return None, sample
    if preset.z_score:
        _standardise(resized, moments)
    return resized, sample


def _change_values(volume: Volume, preset: Preset) -> Float32[np.ndarray, "n rows columns"]:
    """Apply the steps that look at every voxel, to a float32 copy of the whole volume."""
    if len(volume.frame_numbers) != volume.frame_count:
        raise PreprocessError(f"{volume.source}: preset {preset.name!r} needs all {volume.frame_count} frames decoded")
    values: np.ndarray = volume.voxels.astype(np.float32)
    if preset.rescale:
        values = values * np.float32(volume.rescale[0]) + np.float32(volume.rescale[1])
    if preset.move_long_axis and values.shape[0] > values.shape[2]:
        values = np.moveaxis(values, 2, 0)
    if preset.clip_quantile is not None:
        np.clip(values, 0, np.quantile(values, preset.clip_quantile), out=values)
    low, high = values.min(), values.max()
    if preset.min_max and high > low:  # a constant volume is left as it is: the old path's record shows so
        values = (values - low) / (high - low)
    return values if preset.power is None else np.power(values, np.float32(preset.power))


def _standardise(values: Float32[np.ndarray, "D H W"], moments: Moments) -> None:
    """Apply the z-score in place; a constant is only centred, which makes it exactly zero."""
    mean, spread = np.float32(moments.mean), np.float32(moments.sd)
    for plane in values:  # twice over a plane in the cache, once over the whole
        np.subtract(plane, mean, out=plane)
        np.divide(plane, spread if spread > 0 else np.float32(1), out=plane)
