"""B-scans and en-face projections as small pictures that stand inside a page."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped, UInt8
from PIL import Image

from reports.attribution.heat_map import HeatMap

WIDEST_PX = 448
TALLEST_PX = 320
JPEG_QUALITY = 72
OPAQUE = 255
FOR, AGAINST = (217, 95, 2), (43, 108, 176)
"""Orange raises the evidence, blue lowers it: told apart with any colour vision (ColorBrewer PuOr)."""


@dataclass(frozen=True)
class HeatLayer:
    """One map as pictures: PNG with transparency, as coarse as the tokens. heats: one a frame shown.

    en_face: sum over the depth.
    """

    name: str
    title: str
    heats: tuple[str, ...]
    en_face: str


@dataclass(frozen=True)
class ScanImages:
    """The pictures of one scan, as data URIs.

    frames: numbers, from 1, of the B-scans shown. bscans: JPEG, one a frame. en_face: mean over the depth of the shown
    frames. layers: its maps, of which a page shows one at a time.
    """

    frames: tuple[int, ...]
    bscans: tuple[str, ...]
    en_face: str
    layers: tuple[HeatLayer, ...]


def draw_scan(
    voxels: Shaped[np.ndarray, "n rows columns"],
    numbers: Int64[np.ndarray, " n"],
    frame_count: int,
    maps: Sequence[HeatMap],
    largest: Mapping[str, float],
) -> ScanImages:
    """Draw chosen frames (numbers, from 0) of a scan, and its maps over them.

    largest: by name of a map, the absolute value that is painted opaque; a map without one has its own.
    """
    grey = to_grey(voxels)
    places = (numbers + 0.5) / frame_count
    return ScanImages(
        frames=tuple(int(number) + 1 for number in numbers),
        bscans=tuple(_jpeg(frame) for frame in grey),
        en_face=_jpeg(_stretch(grey.mean(axis=1))),
        layers=tuple(_draw_layer(one, places, largest.get(one.name, _largest(one.values))) for one in maps),
    )


def draw_thumbnail(thumbnail: UInt8[np.ndarray, "8 32 32"]) -> tuple[str, ...]:
    """Draw its slices as they are stored, cell by cell, as data URIs."""
    return tuple(_data_uri(Image.fromarray(one), "PNG", optimize=True) for one in thumbnail)


def _draw_layer(one: HeatMap, places: Float64[np.ndarray, " n"], largest: float) -> HeatLayer:
    """Paint the slab of tokens at each place, of 0 to 1 from the first frame to the last."""
    depth = one.values.shape[0]
    slab = np.minimum((places * depth).astype(np.int64), depth - 1)
    flat = one.values.sum(axis=1)
    heats = tuple(_png(paint(one.values[place], largest)) for place in slab)
    return HeatLayer(one.name, one.title, heats, _png(paint(flat, _largest(flat))))


def to_grey(voxels: Shaped[np.ndarray, "n rows columns"]) -> UInt8[np.ndarray, "n rows columns"]:
    """Give 8 bits: as stored where it has 8, else between the 0.5th and the 99.5th percentile."""
    return voxels if voxels.dtype == np.uint8 else _stretch(voxels)


def _stretch(values: Shaped[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    low, high = np.percentile(values, (0.5, 99.5))
    share = np.clip((values.astype(np.float32) - low) / max(float(high - low), 1e-9), 0, 1)
    return np.asarray((share * 255).round(), dtype=np.uint8)


def paint(values: Float64[np.ndarray, "rows columns"], largest: float) -> UInt8[np.ndarray, "rows columns 4"]:
    """Give colour by sign, and opacity by size."""
    strength = np.clip(np.abs(values) / largest, 0, 1) if largest > 0 else np.zeros_like(values)
    colour = np.where((values > 0)[..., None], np.array(FOR), np.array(AGAINST))
    return np.dstack([colour, (strength * OPAQUE).round()]).astype(np.uint8)


def _largest(values: Float64[np.ndarray, "*shape"]) -> float:
    return float(np.abs(values).max())


def _jpeg(grey: UInt8[np.ndarray, "rows columns"]) -> str:
    image = Image.fromarray(grey)
    image = image.resize((min(WIDEST_PX, image.width), min(TALLEST_PX, image.height)), Image.Resampling.BOX)
    return _data_uri(image, "JPEG", quality=JPEG_QUALITY, optimize=True)


def _png(rgba: UInt8[np.ndarray, "rows columns 4"]) -> str:
    return _data_uri(Image.fromarray(rgba), "PNG", optimize=True)


def _data_uri(image: Image.Image, kind: str, **settings: object) -> str:
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return f"data:image/{kind.lower()};base64,{b64encode(out.getvalue()).decode()}"
