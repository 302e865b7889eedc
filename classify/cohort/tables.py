"""Every table next to the store: the labels, what was measured, and whom the encoder has seen before."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from classify.cohort.clinical import add_measurements
from classify.cohort.identity import people_of, test_people
from classify.cohort.join import join_cohort
from classify.cohort.labels import Labels, LabelSource, read_labels
from classify.cohort.measurement_cache import cached_measurements
from classify.cohort.measurements import Measurements
from classify.cohort.pretraining import NOT_GIVEN, describe_overlap, flag_pretraining, read_pretraining
from classify.cohort.questions import Question, Task
from classify.cohort.table import Cohort
from classify.cohort.vouched import NOBODY, Vouched
from classify.errors import CohortError
from classify.run.earlier import Standing
from classify.run.record import CohortFacts
from embeddings_store.snapshot import Snapshot
from embeddings_store.text_table import require_match
from embeddings_store.thumbnails import Thumbnails

OF_TABLE = "the table of labels"


@dataclass(frozen=True)
class CohortTables:
    """The tables as they were read. pretrained: None where the encoder's participants were not given.

    notes: what was mended while reading, with counts.
    """

    labels: Labels
    measurements: Measurements | None = None
    pretrained: frozenset[str] | None = None
    notes: tuple[str, ...] = ()
    vouched: Vouched = NOBODY

    @property
    def task(self) -> Task:
        """The question, completed by the labels."""
        return self.labels.task

    def keep_splits(self, index: pd.DataFrame, tell: Callable[[str], None]) -> None:
        """Keep splits that were made for these labels, once everything was checked. Raises: CohortError.

        index: volume and participant of what was joined.
        """
        self.labels.of(index).keep_splits(tell)

    def join(self, stored: Snapshot) -> Cohort:
        """Join everything with the rows of a store. Raises: CohortError, LeakError."""
        return self.join_rows(stored.index, stored.pooled, stored.thumbnails)

    def join_outside(self, stored: Snapshot, split: str) -> Cohort:
        """Do the same with people of another place, who all are of one split. Raises: CohortError, LeakError."""
        lines, index, pictures = self.labels.lines, stored.index, stored.thumbnails
        return self.beside(join_cohort(index, stored.pooled, lines, self.task, self.vouched, pictures, splits=(split,)))

    def join_rows(
        self,
        index: pd.DataFrame,
        pooled: Float32[np.ndarray, "rows L P C"],
        thumbnails: Thumbnails | None,
    ) -> Cohort:
        """Do the same with rows that no store holds. Raises: CohortError, LeakError."""
        index = self.labels.published.own(index)
        lines, leaks = self.labels.of(index).lines, self.labels.published.leaks
        return self.beside(join_cohort(index, pooled, lines, self.task, self.vouched, thumbnails, leaks=leaks))

    def beside(self, cohort: Cohort) -> Cohort:
        """Put what else was read beside a cohort of these people."""
        if self.measurements is not None:
            cohort = add_measurements(cohort, self.measurements)
        return cohort if self.pretrained is None else flag_pretraining(cohort, self.pretrained)

    def describe(
        self, cohort: Cohort, without: Mapping[str, Any] | None = None, strangers: Set[str] = frozenset()
    ) -> CohortFacts:
        """Return what a record says of a cohort and of the tables that it comes from.

        without: {split: see measure_without}. strangers: see describe_overlap.
        """
        overlap = NOT_GIVEN if self.pretrained is None else describe_overlap(cohort, self.pretrained, strangers)
        return CohortFacts(
            cohort.sha256,
            cohort.sizes(),
            cohort.flow,
            measurements={"given": False} if self.measurements is None else self.measurements.to_record(),
            pretraining=overlap if self.pretrained is None else overlap | {"without": dict(without or {})},
            table_notes=list(self.notes),
            near_copies_allowed=self.vouched.to_record(),
        )

    def describe_run(
        self, cohort: Cohort, marked: pd.DataFrame, without: Mapping[str, Any], standing: Standing, *, balanced: bool
    ) -> CohortFacts:
        """Return the same of a new run. marked: everybody in the store, as mark_volumes does."""
        return replace(
            self.describe(cohort, without, standing.strangers),
            class_weights=cohort.class_weights(balanced=balanced),
            test_people=test_people(self.labels.of(marked).owned(marked), people_of(marked)),
            splits_from=dict(self.labels.splitting.origin),
            resplit=standing.resplit,
        )


def read_tables(
    source: LabelSource,
    question: Question,
    measurements: Path | None = None,
    pretrain_participants: Path | None = None,
    *,
    vouched: Vouched = NOBODY,
    tell: Callable[[str], None],
) -> CohortTables:
    """Read the labels and, where they were given, measurement.csv and the list of the encoder's participants.

    tell: hears where the measurements came from, and what was mended. Raises: CohortError, also where a table or list
    is of other people than the participants; LeakError.
    """
    notes: list[str] = []

    def note(said: str) -> None:
        notes.append(said)
        tell(said)

    labels = read_labels(source, question, note)
    ids = frozenset(labels.lines["participant"])
    pretrained = None if pretrain_participants is None else read_pretraining(pretrain_participants, note)
    if pretrained is not None and pretrain_participants is not None:
        require_match(pretrained, ids, f"--pretrain-participants {pretrain_participants.name}", CohortError, OF_TABLE)
    if measurements is None:
        return CohortTables(labels, None, pretrained, tuple(notes), vouched)
    measured, place = cached_measurements(measurements)
    tell(f"measurements: {place}")
    for said in measured.notes:
        note(said)
    require_match(
        frozenset(measured.table["participant"]), ids, f"--measurements {measurements.name}", CohortError, OF_TABLE
    )
    return CohortTables(labels, measured, pretrained, tuple(notes), vouched)
