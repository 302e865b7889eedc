"""How fine-tuning went: loss, learning rates and the validation score of every epoch, stage after stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.figures import COLOURS, INK, PALE, STYLE, to_data_uri
from reports.headline import number
from reports.pictures import Picture
from reports.runs import FinishedRun

SCORE = "val_balanced_accuracy"
LINES = {
    "Loss": {"train_loss": "training (weighted, augmented)", "val_log_loss": "validation log-loss"},
    "Learning rate": {"learning_rate": "head", "encoder_learning_rate": "last block"},
    "Balanced accuracy": {SCORE: "validation participants"},
}
"""By panel: a field of the history, and what its line is called. A field that no epoch has draws no line."""

STYLES = (("o-", COLOURS[0]), ("s--", COLOURS[1]))


@dataclass(frozen=True)
class Training:
    """The history of a run. stages: name, first and last epoch of each, counted over all stages from 1.

    values: by field, one an epoch, NaN where it was not recorded. chosen: the epoch whose weights were kept.
    """

    stages: tuple[tuple[str, int, int], ...]
    values: Mapping[str, Float64[np.ndarray, " epochs"]]
    chosen: int | None


def picture_training(run: FinishedRun) -> Picture | None:
    """Draw a fine-tuned run's epochs; None for a probe, which has none."""
    parameters = run.record.fitted.parameters
    if not parameters.get("history"):
        return None
    training = read_training(parameters)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 4.4), layout="constrained")
        for ax, (title, lines) in zip(figure.subplots(1, len(LINES)), LINES.items(), strict=True):
            _draw_panel(ax, title, lines, training)
        uri = to_data_uri(figure, run.is_phantom)
    caption = _caption(run.id, parameters, training)
    return Picture(f"training-{run.id}", "How fine-tuning went.", caption, _alt(training), uri)


def read_training(parameters: Mapping[str, Any]) -> Training:
    """Read the history and the chosen epoch of a run's parameters."""
    history: Sequence[Mapping[str, Any]] = parameters["history"]
    names = [str(epoch["stage"]) for epoch in history]
    first = [place for place in range(len(names)) if place == 0 or names[place] != names[place - 1]]
    last = [*(place - 1 for place in first[1:]), len(names) - 1]
    stages = tuple((names[start], start + 1, end + 1) for start, end in zip(first, last, strict=True))
    fields = [field for lines in LINES.values() for field in lines]
    values = {field: np.array([_known(epoch.get(field)) for epoch in history]) for field in fields}
    best = (parameters.get("selection") or {}).get("best") or {}
    key = (best.get("stage"), best.get("epoch"))
    place = next((place for place, epoch in enumerate(history, 1) if (epoch["stage"], epoch["epoch"]) == key), None)
    return Training(stages, values, place)


def _draw_panel(ax: Axes, title: str, lines: Mapping[str, str], training: Training) -> None:
    for (field, name), (style, colour) in zip(lines.items(), STYLES, strict=False):
        values = np.where(training.values[field] > 0, training.values[field], np.nan)
        if not np.isfinite(values).any():
            continue
        ax.plot([], [], style, color=colour, markersize=4, label=name)
        for _, start, end in training.stages:  # a stage begins with the best weights so far: no line leads to it
            ax.plot(np.arange(start, end + 1), values[start - 1 : end], style, color=colour, markersize=4)
    for stage, start, end in training.stages:
        if start > 1:
            ax.axvline(start - 0.5, color=PALE, linewidth=0.8, linestyle=(0, (2, 2)))
        ax.text((start + end) / 2, 1.0, stage, transform=ax.get_xaxis_transform(), ha="center", va="bottom",
                fontsize=9, color="#555555")  # fmt: skip
    if training.chosen is not None:
        ax.axvline(training.chosen, color=INK, linewidth=1.6, zorder=0, label="chosen epoch")
    ax.set_title(title, pad=18)
    ax.set_xlabel("epoch, over all stages")
    ax.set_xlim(0.4, len(training.values[SCORE]) + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if title == "Learning rate":
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}"))
    ax.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def _caption(run_id: str, parameters: Mapping[str, Any], training: Training) -> str:
    stages = "; ".join(
        f"{name}: epoch {start}" if start == end else f"{name}: epochs {start} to {end}"
        for name, start, end in training.stages
    )
    note = (parameters.get("stages_compared") or {}).get("note")
    kept = "no epoch is marked as chosen"
    if training.chosen is not None:
        kept = f"the weights of epoch {training.chosen} were kept, which did best on validation"
        score = training.values[SCORE][training.chosen - 1]
        kept += f" (balanced accuracy {number(float(score))})" if np.isfinite(score) else ""
    said = [
        f"Run {run_id}. {stages}; {kept}",
        note or "",
        "The training loss weighs classes and sees augmented volumes, so its level is not that of validation",
        str(parameters.get("caution") or ""),
    ]
    return " ".join(f"{one[0].upper()}{one[1:]}." for one in said if one)


def _alt(training: Training) -> str:
    scores = [number(float(score)) if np.isfinite(score) else "absent" for score in training.values[SCORE]]
    losses = [number(float(loss)) for loss in training.values["val_log_loss"]]
    return (
        f"Curves over {len(scores)} epochs. Balanced accuracy of validation: {', '.join(scores)}. "
        f"Validation log-loss: {', '.join(losses)}."
    )


def _known(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
