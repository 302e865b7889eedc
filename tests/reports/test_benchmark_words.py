"""The sentence of a benchmark, and its tables in LaTeX: what is not known is no finding."""

import pytest

from classify.comparing.over_datasets import MeanDifference
from classify.run.estimate import Estimate
from reports.benchmark.claim import claim_of
from reports.benchmark.files import escape
from reports.benchmark.record import BenchmarkRecord, PlanFacts
from reports.benchmark.results import OverDatasets


def record(these: Estimate, like: Estimate, judged: str = "abc", lines: int = 1) -> BenchmarkRecord:
    mean = MeanDifference(list(judged), these, like)
    over = OverDatasets({name: f"{name}/x" for name in "abc"}, {"new/linear": {"macro_auroc": mean}} if lines else {})
    return BenchmarkRecord(
        created="", command=[], plan=PlanFacts("plan", "0" * 64, "old", "val"), phantom=False, sources=[], notes=[],
        cells=[], gaps=[], boards={}, over_datasets=over, ranks={}, transport=[], cost=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("these", "like", "said"),
    [
        (Estimate(0.1, p=0.01, holm=0.02), Estimate(0.1, p=0.2, holm=0.4),
         ("shown to be better: new/linear", "nothing is shown to be better or worse")),
        (Estimate(-0.1, p=0.01, holm=0.02), Estimate(-0.1, p=0.01, holm=0.06),
         ("shown to be worse: new/linear", "nothing is shown to be better or worse")),
        (Estimate(0.1, too_few="a: 3 participants"), Estimate(absent="2 datasets"),
         ("too few to say (a: 3 participants)", "too few to say (2 datasets)")),
    ],
)  # fmt: skip
def test_the_claim_is_what_is_shown(these: Estimate, like: Estimate, said: tuple[str, str]) -> None:
    first, _, second = claim_of(record(these, like)).partition(" Of datasets like these: ")
    assert first == f"On these 3 datasets, by mean macro AUROC against old with the same head: {said[0]}."
    assert second == f"{said[1]}."


def test_a_claim_on_fewer_datasets_says_so() -> None:
    shown = Estimate(0.1, p=0.01, holm=0.02)
    assert "shown to be better: new/linear (on 2 of them)" in claim_of(record(shown, shown, "ab"))


def test_one_encoder_alone_is_compared_with_nothing() -> None:
    assert claim_of(record(Estimate(), Estimate(), lines=0)).startswith("Nothing is compared over datasets")


def test_latex_shows_text_as_it_is() -> None:
    assert escape("a_b & 5 % {x}\n~ −1 < #2 $ ^ \\") == (
        r"a\_b \& 5 \% \{x\} \textasciitilde{} $-$1 $<$ \#2 \$ \textasciicircum{} \textbackslash{}"
    )
