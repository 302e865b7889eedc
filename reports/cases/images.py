"""B-scans and en-face projections as small pictures that stand inside a page."""

import io
from base64 import b64encode
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped, UInt8
from PIL import Image

WIDEST_PX = 448
TALLEST_PX = 320
JPEG_QUALITY = 72
OPAQUE = 255
FOR, AGAINST = (217, 95, 2), (43, 108, 176)
"""Orange raises the evidence, blue lowers it: told apart with any colour vision (ColorBrewer PuOr)."""


@dataclass(frozen=True)
class ScanImages:
    """The pictures of one scan, as data URIs.

    frames: numbers, from 1, of the B-scans shown. bscans: JPEG, one a frame. heats: PNG with transparency, one a frame,
    as coarse as the tokens. en_face: mean over the depth of the shown frames; en_face_heat: sum over the depth.
    """

    frames: tuple[int, ...]
    bscans: tuple[str, ...]
    heats: tuple[str, ...]
    en_face: str
    en_face_heat: str


def draw_scan(
    voxels: Shaped[np.ndarray, "n rows columns"],
    numbers: Int64[np.ndarray, " n"],
    frame_count: int,
    evidence: Float64[np.ndarray, "gd gh gw"],
    largest: float,
) -> ScanImages:
    """Draw chosen frames (numbers, from 0) of a scan, and its map of evidence over them.

    largest: the absolute evidence of a token that is painted opaque; the same for all scans of a case.
    """
    grey = to_grey(voxels)
    depth = evidence.shape[0]
    slab = np.minimum(((numbers + 0.5) * depth / frame_count).astype(np.int64), depth - 1)
    flat = evidence.sum(axis=1)
    return ScanImages(
        frames=tuple(int(number) + 1 for number in numbers),
        bscans=tuple(_jpeg(frame) for frame in grey),
        heats=tuple(_png(paint(evidence[place], largest)) for place in slab),
        en_face=_jpeg(_stretch(grey.mean(axis=1))),
        en_face_heat=_png(paint(flat, _largest(flat))),
    )


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


def _largest(values: Float64[np.ndarray, "rows columns"]) -> float:
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
