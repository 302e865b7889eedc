"""The figures of the study page as SVG, drawn from what curves, tables and explain computed. No pyplot."""

import io
from base64 import b64encode
from collections.abc import Sequence
from itertools import cycle
from textwrap import fill, shorten
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64, Int64
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.curves import Reliability, RocCurve
from reports.tables import Panel

# Okabe & Ito (2008): told apart by people with any colour vision; dashes tell them apart in grey print too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
INK, PALE = "#1a1a1a", "#8a8a8a"
PHANTOM_MARK = "SYNTHETIC PHANTOM"
CLEAR = 0.3  # from this rank correlation on, a cell says which way its feature pushes

STYLE: dict[Any, Any] = {  # matplotlib's own type for this spells out every name
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "text.parse_math": False,  # a class called "$x$" is a name, no formula
    "svg.hashsalt": "octprobe",
    "svg.fonttype": "path",
    "figure.dpi": 100,
}

NARROWEST = 5.2  # inches: names of classes stand beside the matrix, however few there are


def draw_forest(panels: Sequence[Panel], phantom: bool) -> str:
    """Draw the panels side by side, with their rows in common: runs as blue dots, baselines as grey diamonds."""
    names = [fill(name, 30) for name in panels[0].names]
    height = 1.5 + 0.36 * sum(name.count("\n") + 1.2 for name in names)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, height), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
        for ax, panel in zip(axes, panels, strict=True):
            _draw_intervals(ax, panel)
            if panel.line is not None:
                ax.axvline(panel.line, color=INK, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
            ax.set_title(fill(panel.title, 72 // len(panels)), verticalalignment="bottom")
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.grid(axis="x", color="#e3e3e3", linewidth=0.7)
            ax.set_axisbelow(True)
            ax.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.4, -0.6)
        return to_data_uri(figure, phantom)


def draw_confusion(counts: Int64[np.ndarray, "k k"], classes: Sequence[str], phantom: bool) -> str:
    """Draw counts, shaded by the share of the row; an empty row stays white."""
    of_row = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, of_row, out=np.zeros(counts.shape), where=of_row > 0)
    names = [fill(f"{i}  {_short(name)}", 24) for i, name in enumerate(classes, 1)]
    side = 1.6 + 0.85 * len(classes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(side + 1.5, NARROWEST), side), layout="compressed")
        ax = figure.subplots()
        ax.imshow(share, cmap="Blues", norm=Normalize(0, 1))
        for row, column in np.ndindex(counts.shape):
            text = f"{counts[row, column]}\n{share[row, column]:.0%}" if of_row[row, 0] else f"{counts[row, column]}"
            ink = "white" if share[row, column] > 0.55 else INK
            ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=11)
        ax.set_xticks(range(len(names)), [str(i) for i in range(1, len(names) + 1)])
        ax.set_yticks(range(len(names)), names, fontsize=10)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("Predicted class")
        ax.set_ylabel("True class")
        return to_data_uri(figure, phantom)


def draw_roc(curves: Sequence[RocCurve], macro: RocCurve | None, phantom: bool) -> str:
    """Draw each class against the rest, and their vertical mean."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.6, 5.4), layout="constrained")
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], color=PALE, linewidth=1, linestyle=(0, (4, 3)), label="Chance: 0.500")
        for curve, colour, dash in zip(curves, cycle(COLOURS), cycle(DASHES), strict=False):
            ax.plot(
                curve.false_positive_rate,
                curve.true_positive_rate,
                color=colour,
                linestyle=dash,
                linewidth=1.7,
                label=fill(_area_said(curve), 44),
            )
        if macro is not None and macro.auroc is not None:
            mean = f"Mean of the classes: {macro.auroc:.3f}"
            ax.plot(macro.false_positive_rate, macro.true_positive_rate, color=INK, linewidth=2.6, label=mean)
        ax.set_xlim(-0.01, 1.01)
        ax.set_ylim(-0.01, 1.01)
        ax.set_aspect("equal")
        ax.set_xlabel("False positive rate (1 − specificity)")
        ax.set_ylabel("True positive rate (sensitivity)")
        figure.legend(loc="outside right center", frameon=False, fontsize=10, title="AUROC, class against the rest")
        return to_data_uri(figure, phantom)


def draw_reliability(reliability: Reliability, phantom: bool) -> str:
    """Draw accuracy over confidence, with the number of units of each bin below."""
    seen = reliability.count > 0
    centres = (reliability.edges[:-1] + reliability.edges[1:]) / 2
    width = 0.92 * float(reliability.edges[1] - reliability.edges[0])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 5.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        top.plot([0, 1], [0, 1], color=PALE, linewidth=1, linestyle=(0, (4, 3)), label="Perfectly calibrated")
        top.plot(
            reliability.confidence[seen],
            reliability.accuracy[seen],
            "o",
            color=COLOURS[0],
            markersize=8,
            label="This run",
        )
        top.set_ylim(-0.03, 1.03)
        top.set_xlim(0, 1)
        top.set_ylabel("Share that was right")
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=10)
        top.grid(color="#e9e9e9", linewidth=0.7)
        bars = bottom.bar(centres, reliability.count, width=width, color="#b9cfe0", edgecolor=COLOURS[0], linewidth=0.8)
        bottom.bar_label(bars, [str(n) if n else "" for n in reliability.count], fontsize=9, padding=1)
        bottom.margins(y=0.28)
        bottom.set_ylabel("Units")
        bottom.set_xlabel("Probability given to the predicted class")
        return to_data_uri(figure, phantom)


def draw_agreement(
    truth: Float64[np.ndarray, " n"],
    said: Float64[np.ndarray, " n"],
    limits: tuple[float, float, float],
    target: str,
    phantom: bool,
) -> str:
    """Draw predictions over the truth, and their difference over their mean. limits: lower, bias, upper."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        ends = [min(truth.min(), said.min()), max(truth.max(), said.max())]
        left.plot(ends, ends, color=PALE, linewidth=1, linestyle=(0, (4, 3)))
        left.plot(truth, said, "o", color=COLOURS[0], markersize=5, alpha=0.6)
        left.set_xlabel(f"True {shorten(target, 40)}")
        left.set_ylabel("Predicted")
        right.plot((truth + said) / 2, said - truth, "o", color=COLOURS[0], markersize=5, alpha=0.6)
        for value, dash in zip(limits, ((0, (4, 3)), "-", (0, (4, 3))), strict=True):
            right.axhline(value, color=INK, linewidth=1, linestyle=dash)
        right.set_xlabel("Mean of the two")
        right.set_ylabel("Predicted minus true")
        for ax in (left, right):
            ax.grid(color="#e9e9e9", linewidth=0.7)
        return to_data_uri(figure, phantom)


def _draw_intervals(ax: Axes, panel: Panel) -> None:
    for place, (estimate, is_baseline) in enumerate(zip(panel.estimates, panel.is_baseline, strict=True)):
        if estimate is None:
            continue
        colour = PALE if is_baseline else COLOURS[0]
        if estimate.value is None:
            ax.text(0.5, place, "absent", transform=ax.get_yaxis_transform(), ha="center", va="center", color=PALE)
            continue
        if estimate.interval:
            ax.plot(estimate.interval, [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        ax.plot([estimate.value], [place], "D" if is_baseline else "o", color=colour, markersize=7)


def _area_said(curve: RocCurve) -> str:
    area = f"absent ({curve.absent})" if curve.auroc is None else f"{curve.auroc:.3f}"
    counts = f"(n = {curve.positives} against {curve.negatives})".replace(" ", "\u00a0")
    return f"{_short(curve.name)}: {area} {counts}"


def _short(name: str) -> str:
    """Write a class name with spaces, and no longer than a label may be."""
    return shorten(name.replace("_", " "), 80, placeholder=" …") or name[:80]


def to_data_uri(figure: Figure, phantom: bool) -> str:
    """Give the figure as SVG inside an address, marked where it shows a phantom."""
    if phantom:
        figure.supxlabel(PHANTOM_MARK, x=0.995, ha="right", fontsize=9, color="#B00020", weight="bold")
    out = io.BytesIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    canvas: Any = FigureCanvasSVG(figure)  # its method has no types
    canvas.print_svg(out, metadata=nothing)  # savefig would draw all of it twice, to the same bytes
    return "data:image/svg+xml;base64," + b64encode(out.getvalue()).decode()
