"""Leave one site, or one device, out of training and judge on it: does the head know the retina or the place?"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from classify.errors import CohortError
from classify.features import FeatureTable
from classify.judging.bootstrap import draw_replicates, measure, paired_difference
from classify.judging.metrics import HEADLINE, why_absent
from classify.judging.subgroups import count_people
from classify.model import FittedModel, fit_model
from classify.predictions import Predictions

LEFT_OUT = ("site", "device")


def leave_one_out(
    model: FittedModel,
    features: FeatureTable,
    table: pd.DataFrame,
    classes: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    """Give, for each of LEFT_OUT, one line a value that stands in val: HEADLINE with and without it in training.

    model: the run's own, whose parameters were chosen on all of train; standardiser, head and what its aggregation
    learns are fitted again without the place. features: raw, one row a line of table (the cohort). A difference below
    0: the head does worse on a place that it did not train on.
    """
    return {
        by: [
            _leave_out(by, str(value), model, features, table, classes, replicates, seed)
            for value in sorted(table.loc[table["split"] == "val", by].unique())
        ]
        for by in LEFT_OUT
    }


def _leave_out(
    by: str,
    value: str,
    model: FittedModel,
    features: FeatureTable,
    table: pd.DataFrame,
    classes: Sequence[str],
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    here = (table[by] == value).to_numpy()
    val = (table["split"] == "val").to_numpy()
    judged = features.where(here & val)
    train = features.where(~here & (table["split"] == "train").to_numpy())
    with_it = _people(model, judged, len(classes))
    line = {"held_out": value, "volumes": len(judged.y), **count_people(with_it, classes)}
    if missing := [name for number, name in enumerate(classes) if not (train.y == number).any()]:
        return line | {"absent": f"without {value}, nobody in train is {', '.join(missing)}"}
    try:
        again = fit_model(model.spec, train, classes=len(classes), seed=seed)
    except CohortError as error:  # the aggregation learns from folds, which may be impossible without the place
        return line | {"absent": str(error)}
    without_it = _people(again, judged, len(classes))
    drawn = draw_replicates(with_it.participant, replicates=replicates, seed=seed)
    (ours, our_values), (theirs, their_values) = (measure(part, drawn, classes) for part in (without_it, with_it))
    return line | {
        "without": {name: ours[name] for name in HEADLINE},
        "with": {name: theirs[name] for name in HEADLINE},
        "difference": {
            name: paired_difference(our_values[name], their_values[name], why_absent(name, with_it.label, classes))
            for name in HEADLINE
        },
    }


def _people(model: FittedModel, judged: FeatureTable, classes: int) -> Predictions:
    return model.predict(judged, classes=classes, split=str(judged.split[0]))["participant"]
