"""What a bench of heads counts, and its table."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from classify.heads import HEADS
from classify.search.spaces import AUTO

Cohort = tuple[str, int, int, int]
NAMED_BY = ("structure", "size", "classes", "seed", "trials", "width", "model")
OWN_PEER = {
    "linear": "LogisticRegression", "ordinal": "Ridge on the class number", "knn": "KNeighbors by cosine",
    "lgbm": "LightGBM", "forest": "ExtraTrees", "mlp": "MLPClassifier",
    "attentive": "attentive with positions", "tokens-linear": "LogisticRegression on tokens",
}  # fmt: skip
"""What a user would take in place of a head of ours."""

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
    lacks one of them has no mean there. The last column and the last line are differences on the same cohorts.
    """
    known = [cell for cell in cells if (cell["trials"], cell["width"]) == (trials, width)]
    by_model = {name: {_cohort(cell): cell for cell in known if cell["model"] == name} for name in order}
    columns = {one: _common_of(known, one) for one in dict.fromkeys(cell["structure"] for cell in known)}
    truth = {_cohort(cell): cell["bayes"] for cell in known}
    lines = [
        f"{trials} trials a search, vectors of {width} numbers. *cohorts*: how many a column's means rest on, the same",
        "in each line; -: not measured on all of them. *seconds*: of the processor for search and fit, a mean over",
        "what the line has. *above its peer*: mean difference over all cohorts that both were measured on, and its",
        "standard error.",
        "",
        f"| model | {' | '.join(columns)} | seconds | above its peer |",
        "|---" * (len(columns) + 3) + "|",
        f"| cohorts | {' | '.join(str(len(common)) for common in columns.values())} | | |",
        f"| Bayes | {' | '.join(_mean(truth[one] for one in common) for common in columns.values())} | | |",
    ]
    for model, own in by_model.items():
        whole = [[own[one] for one in common] if common <= set(own) else [] for common in columns.values()]
        scores = [_mean(cell["score"] for cell in found) for found in whole]
        if any(whole):
            seconds = np.mean([cell["seconds"] for found in whole for cell in found])
            above = _difference(own, by_model.get(OWN_PEER.get(model, ""), {}))
            lines.append(f"| {model} | {' | '.join(scores)} | {seconds:.0f} | {above} |")
    above_best = [_above_best(by_model, common) for common in columns.values()]
    lines.append(f"| `{AUTO}` above the best peer there | {' | '.join(above_best)} | | |")
    return "\n".join(lines)


def _above_best(by_model: Mapping[str, Mapping[Cohort, Mapping[str, Any]]], common: frozenset[Cohort]) -> str:
    """Compare auto with the peer that is best on average on these cohorts."""
    peers = [own for name, own in by_model.items() if name not in HEADS and name != AUTO and common <= set(own)]
    if not peers or not common <= set(by_model.get(AUTO, {})):
        return "-"
    best = max(peers, key=lambda own: float(np.mean([own[one]["score"] for one in common])))
    return _difference({one: by_model[AUTO][one] for one in common}, best)


def _difference(own: Mapping[Cohort, Mapping[str, Any]], other: Mapping[Cohort, Mapping[str, Any]]) -> str:
    """Give the mean difference on common cohorts and, from two on, its standard error."""
    found = [own[one]["score"] - other[one]["score"] for one in own if one in other]
    if not found:
        return "-"
    error = f" ± {np.std(found, ddof=1) / len(found) ** 0.5:.3f}" if len(found) > 1 else ""
    return f"{np.mean(found):+.3f}{error}"


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
