"""B-scans and en-face projections as small pictures that stand inside a page."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped, UInt8
from PIL import Image

from reports.anatomy.seen import WHOLE, Seen
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

    en_face: sum over the depth; where single B-scans were seen, transparent between them.
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
    seen: Seen = WHOLE,
) -> ScanImages:
    """Draw chosen frames (numbers, from 0) of a scan, and its maps over what was seen of them.

    largest: by name of a map, the absolute value that is painted opaque; a map without one has its own.
    """
    grey = to_grey(voxels)
    on = Canvas(numbers, (frame_count, *voxels.shape[1:]), seen)
    return ScanImages(
        frames=tuple(int(number) + 1 for number in numbers),
        bscans=tuple(_jpeg(frame) for frame in grey),
        en_face=_jpeg(_stretch(_flatten(grey, on))),
        layers=tuple(on.draw(one, largest.get(one.name, _largest(one.values))) for one in maps),
    )


def draw_thumbnail(thumbnail: UInt8[np.ndarray, "8 32 32"]) -> tuple[str, ...]:
    """Draw its slices as they are stored, cell by cell, as data URIs."""
    return tuple(_data_uri(Image.fromarray(one), "PNG", optimize=True) for one in thumbnail)


@dataclass(frozen=True)
class Canvas:
    """What maps are painted on. numbers: of the frames shown. shape: frames, rows and columns of the scan."""

    numbers: Int64[np.ndarray, " n"]
    shape: tuple[int, int, int]
    seen: Seen

    def draw(self, one: HeatMap, largest: float) -> HeatLayer:
        """Paint on each frame the slab of tokens that was made of it, and on one that was not seen nothing."""
        frames, seen, (depth, height, width) = self.shape[0], self.seen, one.values.shape
        rows = _tokens_along(min(self.shape[1], TALLEST_PX), height, seen.rows)
        columns = _tokens_along(min(self.shape[2], WIDEST_PX), width, seen.columns)
        painted = [paint(slab, largest) for slab in one.values]
        nothing = np.zeros((height, width, 4), np.uint8)
        heats = [nothing if slab < 0 else painted[slab] for slab in seen.slabs(self.numbers, depth, frames)]
        flat = one.values.sum(axis=1)
        down = np.arange(depth) if seen.frames is None else seen.slabs(np.arange(frames), depth, frames)
        en_face = _png(_lay(paint(flat, _largest(flat)), down, columns))
        return HeatLayer(one.name, one.title, tuple(_png(_lay(heat, rows, columns)) for heat in heats), en_face)


def _tokens_along(pixels: int, tokens: int, span: tuple[float, float]) -> Int64[np.ndarray, " n"]:
    """Number the token that each pixel of a side shows, -1 outside the span; each token once where it is all of it."""
    if span == (0.0, 1.0):
        return np.arange(tokens)
    place = ((np.arange(pixels) + 0.5) / pixels - span[0]) / (span[1] - span[0])
    return np.where((place >= 0) & (place < 1), np.floor(place * tokens), -1).astype(np.int64)


def _lay(
    rgba: UInt8[np.ndarray, "gh gw 4"], rows: Int64[np.ndarray, " n"], columns: Int64[np.ndarray, " m"]
) -> UInt8[np.ndarray, "n m 4"]:
    """Put painted tokens where they belong, and nothing where the number is -1."""
    laid: UInt8[np.ndarray, "n m 4"] = rgba[np.ix_(rows, columns)]
    laid[(rows < 0)[:, None] | (columns < 0)[None, :]] = 0
    return laid


def _flatten(grey: UInt8[np.ndarray, "n rows columns"], on: Canvas) -> Float64[np.ndarray, "depth columns"]:
    """Average over the rows; of single B-scans, give each stored frame the nearest that is shown."""
    flat: Float64[np.ndarray, "n columns"] = grey.mean(axis=1)
    if on.seen.frames is None:
        return flat
    return np.asarray(flat[np.abs(np.arange(on.shape[0])[:, None] - on.numbers).argmin(axis=1)])


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
