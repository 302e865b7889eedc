"""What moved a head, drawn by the shap package: bars, beeswarms, a waterfall."""

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reports.figures import STYLE, to_data_uri
from reports.page import in_words
from reports.pictures import Picture
from reports.shap_values import shap_package

SHOWN = 12
"""Features of a picture; the others are one bar together."""

MOST_POINTS = 1000
"""Volumes of a beeswarm, drawn with seed 0: more of them only cover each other."""


def picture_explanation(explained: Any, certain: int, about: str, *, phantom: bool) -> list[Picture]:
    """Draw bars of all classes, a beeswarm of each, and the waterfall of one volume for the class that scores highest.

    certain: the row of that volume. about: begins each caption.
    """
    plots, names = shap_package().plots, [in_words(name) for name in explained.output_names]
    classes = {name: explained[:, :, place] for place, name in enumerate(names)}
    order = np.argsort(-np.abs(explained.values).mean(axis=0).sum(axis=1), kind="stable")[:SHOWN]
    with _canvas(11.5, 5.0) as figure:
        plots.bar(_over_classes(explained)[:, order], max_display=SHOWN, show=False, ax=figure.gca())
        bars = to_data_uri(figure, phantom)
    drawn = np.sort(np.random.default_rng(0).permutation(len(explained.values))[:MOST_POINTS])
    with _canvas(11.5, 5.2 * -(-len(names) // 2)) as figure:
        axes = figure.subplots(-(-len(names) // 2), min(2, len(names)), squeeze=False).ravel()
        for ax, (name, one) in zip(axes, classes.items(), strict=False):
            plots.beeswarm(one[drawn][:, order], max_display=SHOWN, show=False, ax=ax, plot_size=None, s=9)
            ax.set_title(fill(name, 36))
            _soften(ax)
        for ax in axes[len(names) :]:
            ax.remove()
        swarm = to_data_uri(figure, phantom)
    best = int(np.argmax(explained.base_values[certain] + explained.values[certain].sum(axis=0)))
    with _canvas(9.0, 6.0), mpl.rc_context({"text.parse_math": True}):
        plots.waterfall(classes[names[best]][certain], max_display=SHOWN, show=False)
        fall = to_data_uri(plt.gcf(), phantom)
    units = "in units of the raw score (log-odds, or the score before the softmax)"
    first = ", ".join(str(explained.feature_names[place]) for place in order)
    return [
        Picture(
            "shap",
            "Features that moved the head.",
            f"{about} Mean |SHAP| {units}, all classes added up.",
            f"Most: {first}.",
            bars,
        ),
        Picture(
            "shap-volumes",
            "Every volume.",
            f"{about} A point is a volume (at most {MOST_POINTS}), its colour is the value of the feature. "
            "To the right, the feature raised the score of the class.",
            f"Beeswarms of {', '.join(names)}.",
            swarm,
        ),
        Picture(
            "shap-volume",
            "One volume, added up.",
            f"{about} The volume that the head is surest of, and its score for {names[best]}: from the mean "
            "score E[f(x)] to its own f(x), feature by feature.",
            f"Waterfall of one volume for {names[best]}.",
            fall,
        ),
    ]


def _over_classes(explained: Any) -> Any:
    """Return |SHAP| [volumes, features], added up over the classes."""
    whole = np.abs(explained.values).sum(axis=2)
    return shap_package().Explanation(
        whole, np.zeros(len(whole)), explained.data, feature_names=explained.feature_names
    )


def _soften(ax: Any) -> None:
    """Draw points as one picture inside the SVG: thousands of them make no page of megabytes then."""
    for points in ax.collections:
        points.set_rasterized(True)


@contextmanager
def _canvas(width: float, height: float) -> Iterator[Figure]:
    """Yield the current figure of pyplot, which shap draws on, with the points in the same places each time."""
    state = np.random.get_state()  # noqa: NPY002 - shap jitters its points by the global generator
    np.random.seed(0)  # noqa: NPY002
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height), layout="constrained")
        try:
            yield figure
        finally:
            plt.close(figure)
            np.random.set_state(state)  # noqa: NPY002
