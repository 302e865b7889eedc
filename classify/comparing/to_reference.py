"""Every line of a table against one that was named before anybody looked: paired differences, p-values, Holm's ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from classify.comparing.leaderboard import Entry, Values, keep_common
from classify.judging.bootstrap import draw_replicates, paired_differences, replicate_headline
from classify.judging.holm import adjust_holm
from classify.judging.kinds import measures_of
from classify.run.estimate import Measures
from classify.run.predictions import Predictions

Differences = Measures
"""By metric, with p and holm."""


@dataclass(frozen=True)
class Drawn:
    """What every entry reaches in every draw of the participants that all of them predicted; element 0: everybody."""

    entries: Mapping[str, Entry]
    values: Mapping[str, Values]
    classes: Sequence[str]

    @property
    def people(self) -> Predictions:
        """The predictions of one of them, for who is judged."""
        return next(iter(self.entries.values())).people

    def minus(self, name: str, other: str) -> Differences:
        """Give the headline of one minus another's, with p where the interval is one to be believed."""
        ours, theirs = self.values[name], self.values[other]
        found = paired_differences(ours, theirs, self.people, self.classes)
        return {m: replace(d, p=two_sided_p(ours[m] - theirs[m])) if d.interval else d for m, d in found.items()}


def draw_entries(entries: Sequence[Entry], classes: Sequence[str], *, replicates: int, seed: int) -> Drawn:
    """Draw whole participants, the same for all entries. Raises: CohortError as keep_common does."""
    common = {entry.name: entry for entry in keep_common(entries)}
    drawn = draw_replicates(next(iter(common.values())).people.participant, replicates=replicates, seed=seed)
    return Drawn(
        common, {name: replicate_headline(entry.people, drawn, classes) for name, entry in common.items()}, classes
    )


def compare_to(reference_of: Mapping[str, str], drawn: Drawn) -> dict[str, Differences]:
    """Give the headline of each named entry minus its reference's, with p and Holm's p for all of them together.

    reference_of: by name the one that it is held against, such as the same head on the named encoder.
    """
    found = {name: drawn.minus(name, other) for name, other in reference_of.items()}
    add_holm(found, measures_of(drawn.classes).headline)
    return found


def two_sided_p(apart: Float64[np.ndarray, " R"]) -> float:
    """Return twice the share of draws on the other side of 0, as the percentile interval goes; element 0: the estimate.

    Below 0.05 where the 95 % interval leaves 0 out, to within a draw. One is added, so that it is never 0 (Davison &
    Hinkley 1997, 4.2).
    """
    drawn = apart[1:][np.isfinite(apart[1:])]
    sides = ((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (1 + min(sides)) / (1 + len(drawn))))


def add_holm(found: Mapping[str, Differences], metrics: Sequence[str]) -> None:
    """Add holm, and of: how many were adjusted together, to each p."""
    for metric in metrics:
        known = {name: p for name, of in found.items() if metric in of and (p := of[metric].p) is not None}
        for name, adjusted in adjust_holm(known).items():
            found[name][metric] = replace(found[name][metric], holm=adjusted, of=len(known))
