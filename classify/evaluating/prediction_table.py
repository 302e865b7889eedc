"""The lines of ``classify predict``: one a volume, eye and participant, with what should be known beside the number."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from classify.cohort.units import name_eyes
from classify.features.table import FeatureTable
from classify.reference.training import TrainingReference
from classify.run.predictions import Predictions, rows_of

NOT_FINITE = "no answer: a probability of the model is not finite"


def describe_beside(
    reference: TrainingReference, raw: FeatureTable, classes: tuple[str, ...], nearest: int
) -> pd.DataFrame:
    """Give, for each volume, its distance and percentile of novelty and its nearest training cases, nearest first."""
    x = reference.standardiser.transform(raw.x, raw.protocol)
    distance = reference.novelty.gaussians.distance(x)
    columns: dict[str, Any] = {
        "volume": raw.volume.astype(object),
        "ood_distance": distance,
        "ood_percentile": reference.novelty.percentile(distance),
    }
    rows, apart = reference.known.nearest(x, nearest)
    names, label = np.array(classes, dtype=object), reference.known.label
    for place in range(rows.shape[1]):
        row = rows[:, place]
        columns |= {
            f"nearest_{place + 1}_volume": reference.known.volume[row].astype(object),
            f"nearest_{place + 1}_participant": reference.known.participant[row].astype(object),
            f"nearest_{place + 1}_{'class' if classes else 'value'}": names[label[row]] if classes else label[row],
            f"nearest_{place + 1}_distance": apart[:, place],
        }
    return pd.DataFrame(columns)


def lay_out(
    level: str, part: Predictions, lines: pd.DataFrame, classes: tuple[str, ...], half_width: float = np.nan
) -> pd.DataFrame:
    """Give one line a unit of a level; a unit without a usable volume has no probability, or no number.

    half_width: how far the interval of a number reaches to each side; NaN: no interval.
    lines: of describe_volumes, joined with those of describe_beside.
    """
    known = lines["split_of_run"] == "train"
    # A volume of train is what the distance was fitted on: among its own kind it is no stranger.
    told = lines.assign(**{name: lines[name].mask(known) for name in ("ood_distance", "ood_percentile")})
    person, eye = (told[name].to_numpy(str) for name in ("participant", "eye"))
    tables: Mapping[str, Callable[[], pd.DataFrame]] = {
        "volume": lambda: told.assign(unit=told["volume"], volumes=(told["withheld"] == "").astype(np.int64)),
        "eye": lambda: gather(told.assign(unit=name_eyes(person, eye).astype(object)), ("participant", "eye")),
        "participant": lambda: gather(told.assign(unit=person.astype(object)), ("participant",)),
    }
    part = rows_of(part, np.isfinite(part.probability).all(axis=1) & np.isfinite(part.logits).all(axis=1))
    if not classes:
        value = part.probability[:, 0]
        said = pd.DataFrame(
            {"unit": part.unit.astype(object), "value": value, "low": value - half_width, "high": value + half_width}
        )
        return tables[level]().merge(said, on="unit", how="left", validate="1:1").assign(level=level)
    said = pd.DataFrame(
        {f"probability_{name}": part.probability[:, number] for number, name in enumerate(classes)}
        | {
            "unit": part.unit.astype(object),
            "predicted": np.array(classes, dtype=object)[part.probability.argmax(axis=1)],
            "predicted_at_equal_shares": np.array(classes, dtype=object)[part.scores.argmax(axis=1)],
            "confidence": part.probability.max(axis=1),
        }
    )
    return tables[level]().merge(said, on="unit", how="left", validate="1:1").assign(level=level)


def gather(lines: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Bring the volumes of each unit together: how many were used, their median percentile and all of their flags.

    A unit is unlike training where more than half of the volumes that were used are.
    """
    units = lines.groupby("unit", sort=False)
    table = units[[*names, "split_of_run"]].first()
    usable = (lines["withheld"] == "").groupby(lines["unit"], sort=False).sum()
    table["volumes"] = usable.astype(np.int64)
    table["ood_percentile"] = units["ood_percentile"].median()
    table["flags"] = units["flags"].agg(_union)
    unlike = lines["unlike"].where(lines["withheld"] == "", "")
    mostly = 2 * (unlike != "").groupby(lines["unit"], sort=False).sum() > usable
    table["unlike"] = unlike.groupby(lines["unit"], sort=False).agg(_union).where(mostly, "")
    table["withheld"] = units["withheld"].agg(_union).where(usable == 0, "")
    return table.reset_index()


def mark_abstentions(
    table: pd.DataFrame,
    *,
    abstain_below: float,
    percentile: float,
    never: str = "",
    known: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Add out_of_distribution, abstain and reason; put the columns in the order in which a person reads.

    never: why no line is answered with confidence, if so. known: the smallest and largest number of train, where a
    number is predicted: beyond them, nothing was learned.
    """
    strange = table["ood_percentile"] > percentile
    said = table["confidence" if known is None else "value"]
    lines = zip(table["withheld"], said, table["ood_percentile"], table["unlike"], strict=True)
    reasons = [
        withheld
        or (NOT_FINITE if np.isnan(told) else "")
        or never
        or _why_abstain(_why_unsure(told, abstain_below, known), beyond, percentile, unlike)
        for withheld, told, beyond, unlike in lines
    ]
    marked = table.assign(out_of_distribution=strange, abstain=[bool(said) for said in reasons], reason=reasons)
    names = [str(name) for name in marked.columns]
    answer = (
        ("predicted", "predicted_at_equal_shares", "confidence", *(n for n in names if n.startswith("probability_")))
        if known is None
        else ("value", "low", "high")
    )
    order = [
        *("level", "unit", "participant", "eye", "device", "protocol", "split_of_run", "volumes", *answer),
        *("abstain", "reason", "flags", "ood_percentile", "out_of_distribution", "ood_distance"),
        *(name for name in names if name.startswith("nearest_")),
    ]
    return marked[order]


def _why_unsure(told: float, abstain_below: float, known: tuple[float, float] | None) -> str:
    """Say why an answer is not to be relied on, by itself. told: the confidence, or the number itself."""
    if known is None:
        return f"confidence {told:.2f} below {abstain_below:g}" if told < abstain_below else ""
    low, high = known
    return "" if low <= told <= high else f"value {told:.4g} beyond all of train, which held {low:.4g} to {high:.4g}"


def _why_abstain(unsure: str, beyond: float, percentile: float, unlike: str) -> str:
    strange = [f"out of distribution: farther than {beyond:.1f} % of train"] if beyond > percentile else []
    return "; ".join([*([unsure] if unsure else []), *strange, *([unlike] if unlike else [])])


def _union(said: "pd.Series[str]") -> str:
    return "; ".join(dict.fromkeys(flag for flags in said if flags for flag in flags.split("; ")))
