"""The sentence that a benchmark begins with: what is shown over its datasets, and of what kind of claim."""

from collections.abc import Mapping
from typing import Any

SHOWN = 0.05
METRIC = "macro_auroc"


def claim_of(record: Mapping[str, Any]) -> str:
    """Say which encoders are shown to differ from the reference on these datasets, and on datasets like these."""
    over, reference = record["over_datasets"], record["plan"]["reference"]
    count = len(over["boards"])
    if not over["lines"] or not count:
        return f"Nothing is compared over datasets: no first task asks for classes, or {reference} stands alone."
    these, like = (_said(over["lines"], claim, count) for claim in ("these", "like_these"))
    return (
        f"On these {count} datasets, by mean macro AUROC against {reference} with the same head: {these}. Of "
        f"datasets like these: {like}."
    )


def _said(lines: Mapping[str, Any], claim: str, count: int) -> str:
    measured = [of[METRIC][claim] for of in lines.values()]
    if all(one.p is None for one in measured):
        why = next((one.too_few or one.absent for one in measured), "")
        return f"too few to say ({why})"
    parts = [f"shown to be {word}: {', '.join(names)}" for word, names in _named(lines, claim, count).items() if names]
    return "; ".join(parts) if parts else "nothing is shown to be better or worse"


def _named(lines: Mapping[str, Any], claim: str, count: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"better": [], "worse": []}
    for name, of in lines.items():
        measured = of[METRIC][claim]
        if measured.holm is not None and measured.holm < SHOWN:
            judged = len(of[METRIC]["datasets"])
            where = "" if judged == count else f" (on {judged} of them)"
            found["better" if measured.value > 0 else "worse"].append(f"{name}{where}")
    return found
