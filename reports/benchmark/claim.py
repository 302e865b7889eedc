"""The sentence that a benchmark begins with: what is shown over its datasets, and of what kind of claim."""

from collections.abc import Mapping

from classify.run.estimate import Estimate
from reports.benchmark.record import BenchmarkRecord

SHOWN = 0.05
METRIC = "macro_auroc"
WORDS = {"better": True, "worse": False}


def claim_of(record: BenchmarkRecord) -> str:
    """Say which encoders are shown to differ from the reference on these datasets, and on datasets like these."""
    over, reference = record.over_datasets, record.plan.reference
    count = len(over.boards)
    if not over.lines or not count:
        return f"Nothing is compared over datasets: no first task asks for classes, or {reference} stands alone."
    means = {name: of[METRIC] for name, of in over.lines.items()}
    judged = {name: len(one.datasets) for name, one in means.items()}
    called = {name: name if of == count else f"{name} (on {of} of them)" for name, of in judged.items()}
    these = _said({called[name]: one.these for name, one in means.items()})
    like = _said({called[name]: one.like_these for name, one in means.items()})
    return (
        f"On these {count} datasets, by mean macro AUROC against {reference} with the same head: {these}. Of "
        f"datasets like these: {like}."
    )


def _said(lines: Mapping[str, Estimate]) -> str:
    if all(one.p is None for one in lines.values()):
        why = next((one.too_few or one.absent for one in lines.values()), "")
        return f"too few to say ({why})"
    shown = {name: (one.value or 0.0) > 0 for name, one in lines.items() if one.holm is not None and one.holm < SHOWN}
    named = {word: [name for name, up in shown.items() if up is better] for word, better in WORDS.items()}
    parts = [f"shown to be {word}: {', '.join(names)}" for word, names in named.items() if names]
    return "; ".join(parts) if parts else "nothing is shown to be better or worse"
