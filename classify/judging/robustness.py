"""Leave one site, or one device, out of training and judge on it: does the head know the retina or the place?"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from classify.aggregate import aggregate_levels, predict_volumes
from classify.features import FeatureTable
from classify.heads.contract import Head
from classify.judging.bootstrap import draw_replicates, measure, paired_difference
from classify.judging.metrics import HEADLINE, why_absent
from classify.judging.subgroups import count_people
from classify.predictions import Predictions, rows_of
from classify.search.folds import head_weights
from classify.standardise import Standardiser

LEFT_OUT = ("site", "device")


def leave_one_out(
    new_head: Callable[[], Head],
    features: FeatureTable,
    table: pd.DataFrame,
    whole: Predictions,
    classes: Sequence[str],
    *,
    replicates: int,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    """Give, for each of LEFT_OUT, one line a value that stands in val: HEADLINE with and without it in training.

    new_head: an unfitted head with the run's parameters, which were chosen on all of train. features: raw, one row a
    line of table (the cohort). whole: val volumes as the run's own head predicts them. The standardiser is fitted
    again too. A difference below 0: the head does worse on a place that it did not train on.
    """
    return {
        by: [
            _leave_out(by, str(value), new_head, features, table, whole, classes, replicates, seed)
            for value in sorted(table.loc[table["split"] == "val", by].unique())
        ]
        for by in LEFT_OUT
    }


def _leave_out(
    by: str,
    value: str,
    new_head: Callable[[], Head],
    features: FeatureTable,
    table: pd.DataFrame,
    whole: Predictions,
    classes: Sequence[str],
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    here = (table[by] == value).to_numpy()
    val = (table["split"] == "val").to_numpy()
    judged = features.where(here & val)
    train = features.where(~here & (table["split"] == "train").to_numpy())
    with_it = aggregate_levels(rows_of(whole, here[val]), judged.eye)["participant"]
    line = {"held_out": value, "volumes": len(judged.y), **count_people(with_it, classes)}
    if missing := [name for number, name in enumerate(classes) if not (train.y == number).any()]:
        return line | {"absent": f"without {value}, nobody in train is {', '.join(missing)}"}
    without_it = _predict(new_head(), train, judged, len(classes))
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


def _predict(head: Head, train: FeatureTable, judged: FeatureTable, classes: int) -> Predictions:
    standardiser = Standardiser.fit(train.x, train.protocol)
    known = train.standardised(standardiser)
    head.fit(known.x, np.asarray(known.y), head_weights(head.name, known), known.participant)
    volumes = predict_volumes(
        head, judged.standardised(standardiser), classes=classes, model=head.name, split=str(judged.split[0])
    )
    return aggregate_levels(volumes, judged.eye)["participant"]
