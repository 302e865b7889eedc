"""What the pages say is true in cohorts of known truth: the quick form of claims_cohorts, and two single cases."""

import numpy as np
import pytest
from claims_cohorts import KINDS, claims_better, claims_worse, share, study

from classify.baselines import choose_baselines
from classify.cohort.table import BRIGHTNESS


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_an_embedding_that_knows_a_covariate_alone_is_not_called_better(kind: str) -> None:
    assert share(lambda seed: claims_better(kind, seed, 200), 6) <= 1 / 6


def test_an_embedding_that_knows_the_retina_is_called_better() -> None:
    assert share(lambda seed: claims_better("retina", seed, 200), 4) >= 0.75


@pytest.mark.parametrize(("models", "volumes"), [(3, 1), (12, 1), (6, 4)])
def test_of_equal_models_none_is_called_worse_than_the_best(models: int, volumes: int) -> None:
    assert share(lambda seed: claims_worse(models, seed, volumes=volumes, replicates=200), 20) <= 0.15


@pytest.mark.parametrize("column", ["age", "site", BRIGHTNESS[0]])
def test_a_covariate_without_a_usable_value_makes_no_baseline(column: str) -> None:
    table, _ = study("retina", 0)
    told = {"age": "age", "site": "site", BRIGHTNESS[0]: "raw intensity statistics"}[column]
    for value in ["UW"] if column == "site" else [np.nan, 50.0]:
        names, missing = choose_baselines(table.assign(**{column: value}))
        assert told not in names
        reasons = {line["name"]: line["reason"] for line in missing}
        assert reasons[told]
        if column in {"age", "site"}:
            assert {"age+site", "embedding+age+site"} <= set(reasons)
