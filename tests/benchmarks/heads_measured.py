"""What a bench of heads counts, and its table."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

BLOCK = re.compile(r"<!-- heads -->.*?<!-- /heads -->", re.DOTALL)


def macro_auroc(label: np.ndarray, scores: np.ndarray) -> float:
    """Give the mean over classes of one against the rest. scores: logits or log-likelihoods [n, k]."""
    from scipy.special import softmax

    shares = softmax(scores, axis=1)
    return float(np.mean([roc_auc_score(label == number, shares[:, number]) for number in range(scores.shape[1])]))


def draw_table(cells: Iterable[Mapping[str, Any]], order: Iterable[str]) -> str:
    """Draw a line a model and a column a structure: the mean over sizes, classes and seeds that every model has."""
    known = list(cells)
    structures = list(dict.fromkeys(cell["structure"] for cell in known))
    models = [name for name in order if any(cell["model"] == name for cell in known)]
    lines = [f"| model | {' | '.join(structures)} | seconds |", "|---" * (len(structures) + 2) + "|"]
    bayes = [_mean(cell["bayes"] for cell in known if cell["structure"] == one) for one in structures]
    lines.append(f"| Bayes | {' | '.join(bayes)} | |")
    for model in models:
        own = [cell for cell in known if cell["model"] == model]
        scores = [_mean(cell["score"] for cell in own if cell["structure"] == one) for one in structures]
        lines.append(f"| {model} | {' | '.join(scores)} | {np.mean([cell['seconds'] for cell in own]):.0f} |")
    return "\n".join(lines)


def replace_table(page: str, table: str) -> str:
    """Put the table between the markers of a page. Raises: ValueError where there are none."""
    if not BLOCK.search(page):
        raise ValueError("page: expected a line <!-- heads --> and, after it, a line <!-- /heads -->, found none")
    return BLOCK.sub(lambda _: f"<!-- heads -->\n{table}\n<!-- /heads -->", page, count=1)


def _mean(values: Iterable[float]) -> str:
    found = list(values)
    return f"{np.mean(found):.3f}" if found else "-"
