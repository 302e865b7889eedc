"""Copies of a phantom's scans under the number of another participant, as files: lossy, noisy, brightened, mirrored."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, JPEGBaseline8Bit

Pixels = np.ndarray


def _jpeg(file: pydicom.Dataset, decibel: float) -> None:
    """Encode by the quality that comes nearest to a signal-to-noise ratio."""
    pixels = file.pixel_array

    def encode(quality: int) -> tuple[float, list[bytes]]:
        buffers = [BytesIO() for _ in pixels]
        for frame, buffer in zip(pixels, buffers, strict=True):
            Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
        decoded = np.stack([np.array(Image.open(buffer)) for buffer in buffers]).astype(float)
        noise = np.square(decoded - pixels).mean()
        return abs(10 * np.log10(255**2 / max(noise, 1e-9)) - decibel), [buffer.getvalue() for buffer in buffers]

    _, frames = min((encode(quality) for quality in (10, 18, 30, 60, 90, 95, 98, 100)), key=lambda found: found[0])
    file.PixelData = encapsulate(frames)
    file["PixelData"].is_undefined_length = True
    file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit


def _jpeg2000(file: pydicom.Dataset, decibel: float) -> None:
    file.compress(JPEG2000, j2k_psnr=[decibel], encoding_plugin="pylibjpeg", generate_instance_uid=False)


def _changed(change: Callable[[Pixels], Pixels]) -> Callable[[pydicom.Dataset], None]:
    def apply(file: pydicom.Dataset) -> None:
        file.PixelData = np.clip(np.rint(change(file.pixel_array.astype(float))), 0, 255).astype(np.uint8).tobytes()

    return apply


def _noisy(share: float) -> Callable[[pydicom.Dataset], None]:
    rng = np.random.default_rng(0)
    return _changed(lambda pixels: pixels + 255 * share * rng.standard_normal(pixels.shape))


WAYS: dict[str, Callable[[pydicom.Dataset], None]] = {
    **{f"JPEG, {decibel} dB": lambda file, decibel=decibel: _jpeg(file, decibel) for decibel in (30, 40, 50, 60)},
    **{
        f"J2K, {decibel} dB": lambda file, decibel=decibel: _jpeg2000(file, decibel) for decibel in (30, 40, 45, 50, 60)
    },
    **{f"noise {share:g}": _noisy(share) for share in (1e-3, 1e-2, 5e-2)},
    "one grey more": _changed(lambda pixels: pixels + 1),
    "brighter": _changed(lambda pixels: 1.05 * pixels),
    "darker": _changed(lambda pixels: 0.9 * pixels + 5),
    "mirrored": _changed(lambda pixels: pixels[:, :, ::-1]),
    "frames turned round, and noise": _changed(lambda pixels: pixels[::-1] + 2),
}


def copy_scan(scan: Path, person: str, way: str, number: int) -> Path:
    """Put a copy of a scan under another participant; a mirrored one passes as the other eye. Gives its path."""
    file = pydicom.dcmread(scan)
    WAYS[way](file)
    head, _ = scan.name.split("_2.25.")
    head = head.replace(scan.parent.name, person, 1)
    if way == "mirrored":
        head = f"{head[:-1]}{'r' if head.endswith('_l') else 'l'}"
    path = scan.parent.parent / person / f"{head}_2.25.{900000 + number}.dcm"
    file.save_as(path)
    return path
