"""What a bench of heads counts, and its table."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

Cohort = tuple[str, int, int, int]
NAMED_BY = ("structure", "size", "classes", "seed", "trials", "width", "model")
BLOCK = re.compile(r"<!-- heads -->.*?<!-- /heads -->", re.DOTALL)


def macro_auroc(label: np.ndarray, scores: np.ndarray) -> float:
    """Give the mean over classes of one against the rest. scores: logits or log-likelihoods [n, k]."""
    from scipy.special import softmax

    shares = softmax(scores, axis=1)
    return float(np.mean([roc_auc_score(label == number, shares[:, number]) for number in range(scores.shape[1])]))


def name_of(cell: Mapping[str, Any]) -> str:
    """Name a cell by everything that its number depends on."""
    return "/".join(str(cell[name]) for name in NAMED_BY)


def draw_table(cells: Iterable[Mapping[str, Any]], order: Iterable[str], *, trials: int, width: int) -> str:
    """Draw a line a model and a column a structure, of one setting of the searches.

    A column's means rest on the same cohorts in every line: those that the most models were measured on. A model that
    lacks one of them has no mean there.
    """
    known = [cell for cell in cells if (cell["trials"], cell["width"]) == (trials, width)]
    models = [name for name in order if any(cell["model"] == name for cell in known)]
    columns = {one: _common_of(known, one) for one in dict.fromkeys(cell["structure"] for cell in known)}
    lines = [
        f"{trials} trials a search, vectors of {width} numbers. *cohorts*: how many a column's means rest on, the same",
        "in each line; -: not measured on all of them. *seconds*: of search and fit, a mean over what the line has.",
        "",
        f"| model | {' | '.join(columns)} | seconds |",
        "|---" * (len(columns) + 2) + "|",
        f"| cohorts | {' | '.join(str(len(common)) for common in columns.values())} | |",
    ]
    bayes = [
        _mean({_cohort(cell): cell["bayes"] for cell in known if _cohort(cell) in common}.values())
        for common in columns.values()
    ]
    lines.append(f"| Bayes | {' | '.join(bayes)} | |")
    for model in models:
        own = {_cohort(cell): cell for cell in known if cell["model"] == model}
        whole = [[own[one] for one in common] if common <= set(own) else [] for common in columns.values()]
        scores = [_mean(cell["score"] for cell in found) for found in whole]
        seconds = [cell["seconds"] for found in whole for cell in found]
        if seconds:
            lines.append(f"| {model} | {' | '.join(scores)} | {np.mean(seconds):.0f} |")
    return "\n".join(lines)


def _cohort(cell: Mapping[str, Any]) -> Cohort:
    return str(cell["structure"]), cell["size"], cell["classes"], cell["seed"]


def _common_of(cells: Iterable[Mapping[str, Any]], structure: str) -> frozenset[Cohort]:
    """Give the cohorts of a structure that the most models were measured on."""
    models = Counter(_cohort(cell) for cell in cells if cell["structure"] == structure)
    return frozenset(one for one, count in models.items() if count == max(models.values()))


def replace_table(page: str, table: str) -> str:
    """Put the table between the markers of a page. Raises: ValueError where there are none."""
    if not BLOCK.search(page):
        raise ValueError("page: expected a line <!-- heads --> and, after it, a line <!-- /heads -->, found none")
    return BLOCK.sub(lambda _: f"<!-- heads -->\n{table}\n<!-- /heads -->", page, count=1)


def _mean(values: Iterable[float]) -> str:
    found = list(values)
    return f"{np.mean(found):.3f}" if found else "-"
