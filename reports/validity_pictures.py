"""Figures of the validity part: decision curves, learning curve, and a map of the embedding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from classify.features.table import FeatureTable
from classify.learning_curve import CURVE, CurveRecord
from classify.model_files import readable
from classify.run.estimate import Estimate
from classify.run.published_folder import LEARNING_CURVES
from classify.run.typed_record import read_typed
from reports.figures import COLOURS, PALE, STYLE, to_data_uri
from reports.page import in_words
from reports.pictures import Picture
from reports.runs import FinishedRun

MOST_POINTS = 4000
MOST_NAMES = 10
MARKERS = "osD^vP*X<>"


@dataclass(frozen=True)
class EmbeddingMap:
    """Two principal components of standardised features. x [n, 2]; share: of the variance, of each."""

    x: Float64[np.ndarray, "n 2"]
    share: tuple[float, float]
    names: Mapping[str, Shaped[np.ndarray, " n"]]


def picture_decision(run: FinishedRun) -> Picture | None:
    """Show net benefit over threshold probabilities, beside treating everybody and nobody."""
    found = run.record.judged.decision_curves.get("val")
    if not found:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 3.9), layout="constrained")
        for ax, (name, curve) in zip(np.atleast_1d(figure.subplots(1, len(found))), found.items(), strict=True):
            _draw_decision(ax, name, curve)
        uri = to_data_uri(figure, run.is_phantom)
    caption = (
        "Validation participants. Net benefit (Vickers & Elkin 2006) of acting on the model at each threshold "
        "probability, with its 95 % band, compared with acting on everybody (dashed) and on nobody (0)."
    )
    return Picture(
        "decision", "Decision curves.", caption, "Decision curves: " + ", ".join(found).replace("_", " "), uri
    )


def _draw_decision(ax: Axes, name: str, curve: Mapping[str, Any]) -> None:
    if "threshold" not in curve:
        ax.set_title(f"{in_words(name)}: absent")
        return
    at = curve["threshold"]
    ax.fill_between(at, curve["low"], curve["high"], color=COLOURS[0], alpha=0.15, linewidth=0)
    ax.plot(at, curve["net_benefit"], color=COLOURS[0], linewidth=2, label="model")
    ax.plot(at, curve["treat_all"], color=PALE, linestyle="--", label="everybody")
    ax.axhline(0, color="#333333", linewidth=1, label="nobody")
    ax.set_ylim(-0.1, max(0.05, 1.15 * float(curve["prevalence"]), 1.05 * float(np.nanmax(curve["high"]))))
    ax.set_title(in_words(name))
    ax.set_xlabel("threshold probability")
    ax.set_ylabel("net benefit")
    ax.legend(frameon=False, fontsize=9)


def picture_learning_curve(runs_dir: Path, run: FinishedRun) -> Picture | None:
    """Show the newest learning curve of this run's task and cohort, where one was traced."""
    for path in sorted((runs_dir / LEARNING_CURVES).glob(f"*/{CURVE}"), reverse=True):
        with readable(f"{LEARNING_CURVES}/{path.parent.name}/{CURVE}"):
            curve = read_typed(CurveRecord, path)
            if curve.task == run.record.asked.task and curve.cohort_sha256 == run.record.cohort.cohort_sha256:
                return _learning_picture(curve, run.is_phantom)
    return None


def _learning_picture(record: CurveRecord, phantom: bool) -> Picture:
    points = [point for point in record.points if point.get("balanced_accuracy", Estimate()).value is not None]
    people = [point["participants"] for point in points]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.9), layout="constrained")
        for ax, metric in zip(figure.subplots(1, 2), ("balanced_accuracy", "macro_auroc"), strict=True):
            found = [point[metric] for point in points]
            low, high = zip(*(one.interval or (np.nan, np.nan) for one in found), strict=True)
            ax.fill_between(people, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
            ax.plot(people, [one.value for one in found], "o-", color=COLOURS[0])
            ax.set_xlabel("participants trained on")
            ax.set_title(metric.replace("_", " "))
        uri = to_data_uri(figure, phantom)
    said = "; ".join(
        f"{n} participants {m['balanced_accuracy'].value:.3f}" for n, m in zip(people, points, strict=True)
    )
    cautions = " ".join(f"{one[0].upper()}{one[1:]}." for one in record.said)
    caption = f"{record.model}, {record.repeats} repeats a point. {cautions}"
    return Picture("learning-curve", "Learning curve.", caption, f"Learning curve. {said}.", uri)


def map_embedding(table: FeatureTable, columns: Mapping[str, Shaped[np.ndarray, " n"]], *, seed: int) -> EmbeddingMap:
    """Project standardised features on two components, found on at most MOST_POINTS volumes."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(table.x))[:MOST_POINTS])
    pca = PCA(2, svd_solver="randomized", random_state=seed).fit(table.x[rows])
    share = pca.explained_variance_ratio_
    x = pca.transform(table.x[rows]).astype(np.float64)
    return EmbeddingMap(x, (float(share[0]), float(share[1])), {name: part[rows] for name, part in columns.items()})


def picture_map(found: EmbeddingMap, phantom: bool) -> Picture:
    """Show the same points coloured by site, device, label ..."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 4.6), layout="constrained")
        for ax, (title, names) in zip(
            np.atleast_1d(figure.subplots(1, len(found.names))), found.names.items(), strict=True
        ):
            _draw_points(ax, title, found.x, names)
        uri = to_data_uri(figure, phantom)
    caption = (
        f"{len(found.x)} volumes, standardised within protocol as the head sees them; two principal components hold "
        f"{100 * found.share[0]:.0f} and {100 * found.share[1]:.0f} % of the variance. Groups that lie apart by "
        "site or device are a reason to look at the hold-outs."
    )
    return Picture("map", "Map of the embedding.", caption, f"Scatter plots coloured by {', '.join(found.names)}.", uri)


def _draw_points(ax: Axes, title: str, x: Float64[np.ndarray, "n 2"], names: Shaped[np.ndarray, " n"]) -> None:
    values, counts = np.unique(names, return_counts=True)
    shown = values[np.argsort(-counts, kind="stable")][:MOST_NAMES]
    for value, colour, marker in zip(shown, cycle(COLOURS), cycle(MARKERS), strict=False):
        here = names == value
        ax.scatter(x[here, 0], x[here, 1], s=9, marker=marker, color=colour, alpha=0.55, linewidths=0, rasterized=True,
                   label=fill(in_words(str(value)) or "not stated", 30))  # fmt: skip
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.02), markerscale=1.6)


def present(pictures: Sequence[Picture | None]) -> list[Picture]:
    """Leave out what is not there."""
    return [picture for picture in pictures if picture is not None]
