"""The contact sheet: the middle B-scan of each scan, so that a turned or foreign one is seen before anything runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageDraw

from embeddings_store.errors import UsageError
from embeddings_store.safe_keys import shortened
from extract.bucket.members import fetch_scan
from extract.bucket.source import Source
from extract.dicom.kind import ANY_CLASS
from extract.errors import FetchError, ScanError
from extract.scan import read_fetched
from extract.survey.facts import Surveyed

MOST, ACROSS, WIDTH, HEIGHT, LINE = 100, 5, 200, 160, 14


def draw_contact_sheet(source: Source, volumes: Sequence[Surveyed], out: Path) -> None:
    """Write a PNG of at most 100 scans, spread over the table, each with its name. Raises: UsageError, BucketError."""
    whole = [one for one in volumes if not one.fault]
    spread = np.linspace(0, len(whole) - 1, min(MOST, len(whole))) if whole else np.zeros(0)
    places: list[int] = np.unique(spread.round().astype(int)).tolist()
    down = max(1, -(-len(places) // ACROSS))
    sheet = Image.new("L", (ACROSS * WIDTH, down * (HEIGHT + LINE)), 0)
    pen = ImageDraw.Draw(sheet)
    for number, place in enumerate(places):
        corner = (number % ACROSS * WIDTH, number // ACROSS * (HEIGHT + LINE))
        picture = _middle(source, whole[place])
        if picture is not None:
            sheet.paste(picture, corner)
        name = shortened(whole[place].scan.name)[-32:].encode("ascii", "replace").decode()
        pen.text((corner[0] + 2, corner[1] + HEIGHT), name, fill=255)
    try:
        sheet.save(out, "PNG")
    except OSError as error:
        raise UsageError(f"--contact-sheet {out}: cannot be written: {error.strerror}") from error


def _middle(source: Source, one: Surveyed) -> Image.Image | None:
    ref = one.scan.ref
    try:
        fetched = fetch_scan(source, ref, _half)
        volume = read_fetched(fetched, ref, _half, allowed=frozenset(ANY_CLASS))
    except (FetchError, ScanError):
        return None
    return Image.fromarray(_grey(volume.voxels[len(volume.voxels) // 2])).resize((WIDTH - 2, HEIGHT - 2))


def _half(count: int) -> np.ndarray:
    return np.array([count // 2])


def _grey(frame: Shaped[np.ndarray, "rows columns"]) -> Shaped[np.ndarray, "rows columns"]:
    low, high = float(frame.min()), float(frame.max())
    return ((frame - low) * (255.0 / (high - low or 1.0))).astype(np.uint8)
