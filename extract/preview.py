"""A picture of a scan as it was read: three B-scans and the view from the front, with their axes named."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Shaped

from embeddings_store.errors import UsageError
from embeddings_store.extras import require
from embeddings_store.schema import Note
from extract.file_options import PreviewOptions
from extract.options import read_classes
from extract.readers.local import read_local
from extract.volume import Volume

INCHES: Final = (12.0, 9.0)
DPI: Final = 100
STRETCH: Final = (1.0, 99.5)
"""Percentiles that become black and white."""


def preview_file(options: PreviewOptions) -> str:
    """Draw a scan into a PNG, and say how it was read. Raises: UsageError, ScanError."""
    allowed = read_classes(options.allow_sop_class)
    require("matplotlib", "preview")
    volume = read_local(options.file, options.read_options(), volume=options.volume, allowed=allowed)
    words = describe(volume)
    draw(volume, f"{options.file.name}\n{words}", options.out)
    return f"{options.out}: {words}"


def describe(volume: Volume) -> str:
    """Say what was read: size, type, spacing, eye and notes."""
    frames, rows, columns = volume.voxels.shape
    notes = [note.name or "" for note in Note if note & volume.notes]
    spacing = "not given"
    if volume.spacing_mm is not None:
        spacing = " x ".join("?" if np.isnan(step) else f"{step:.4g}" for step in volume.spacing_mm) + " mm"
    return (
        f"{frames} frames x {rows} rows x {columns} columns, {volume.voxels.dtype}; spacing {spacing}; "
        f"eye {volume.eye}; notes: {', '.join(notes) or 'none'}"
    )


def draw(volume: Volume, title: str, out: Path) -> None:
    """Write the picture aside, then publish it by rename. Raises: UsageError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    count, (low, high) = len(volume.voxels), _range(volume.voxels)
    chosen = sorted({count // 4, count // 2, (3 * count) // 4})
    places = figure.subplots(2, 2).flat
    for axes, number in zip(places, chosen, strict=False):
        axes.imshow(volume.voxels[number], cmap="gray", vmin=low, vmax=high, aspect="auto", interpolation="nearest")
        _name(axes, f"B-scan {number + 1} of {count}", "columns: along the B-scan", "rows: depth, vitreous on top")
    axes = figure.axes[-1]
    axes.imshow(_en_face(volume.voxels), cmap="gray", aspect="auto", interpolation="nearest")
    for number in chosen:
        axes.axhline(number, color="tab:orange", linewidth=0.8)
    _name(
        axes, "en face: mean over depth; the B-scans above are marked", "columns: along the B-scan", "frames: slow axis"
    )
    for unused in figure.axes[len(chosen) : -1]:
        unused.set_axis_off()
    aside = out.with_name(f".{out.name}.part")
    try:
        figure.savefig(aside, format="png")
        aside.replace(out)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UsageError(f"--out {out}: expected a place that can be written, got {error.strerror}") from error


def _name(axes: Any, title: str, across: str, down: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(f"{across} →", fontsize=8)
    axes.set_ylabel(f"← {down}", fontsize=8)
    axes.tick_params(labelsize=7)


def _range(voxels: Shaped[np.ndarray, "n rows columns"]) -> tuple[float, float]:
    sample = voxels[:: max(1, len(voxels) // 16), ::4, ::4]
    low, high = np.percentile(sample, STRETCH)
    return float(low), float(high if high > low else low + 1)


def _en_face(voxels: Shaped[np.ndarray, "n rows columns"]) -> Float32[np.ndarray, "n columns"]:
    return np.stack([frame.mean(axis=0, dtype=np.float32) for frame in voxels])
