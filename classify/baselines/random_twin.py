"""The random twin: what the same head finds in the same scans as an encoder with random weights sees them.

What the twin finds as well was not learned in pretraining: an untrained network already keeps brightness, shape and
thickness of what it looks at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from classify.baselines.covariates import TWIN_MISSING
from classify.cohort.identity import people_of, same_number_only
from classify.cohort.table import Cohort
from classify.errors import CohortError, RunFolderError
from classify.fitting.model import FittedModel, ModelSpec, fit_model
from classify.fitting.source import FeatureSource, source_on
from classify.judging.bootstrap import draw_replicates, measure, paired_differences
from classify.run.estimate import Estimate
from classify.run.predictions import Predictions, judged_of, rows_of
from classify.run.record import Rivals, RunRecord
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot
from embeddings_store.space import EmbeddingSpace

RANDOM_TWIN = "random twin"
ITS_OWN = ("weights_sha256", "token_grid", "token_dtype", "schema_version")
"""Fields of a space in which a twin may differ: its weights must, and tokens are not compared."""

AT_ITS_WORD = "a store does not say whether its weights are random: that this one's are is taken on trust"


@dataclass(frozen=True)
class Twin:
    """What a run says of its twin. told: its space, parameters, participants, and notes on how alike the two are.

    model: as it was fitted on the twin's vectors; a look at test predicts with it.
    """

    model: FittedModel
    people: Predictions
    metrics: dict[str, Estimate]
    difference: dict[str, Estimate]
    told: dict[str, Any]

    @property
    def rows(self) -> dict[str, Predictions]:
        """Its predictions, by the name that tables call it."""
        return {self.people.model: self.people}

    def beside(self, record: RunRecord) -> RunRecord:
        """Give the record with the twin among the baselines."""
        missing = [one for one in record.rivals.baselines_missing if one != TWIN_MISSING]
        return replace(self.seen_beside(record), rivals=Rivals(missing, self.difference, self.told))

    def seen_beside(self, record: RunRecord) -> RunRecord:
        """Give a finished run's record with the twin's metrics of a further split among the baselines."""
        known = record.judged.baselines.get(RANDOM_TWIN, {})
        baselines = record.judged.baselines | {RANDOM_TWIN: known | {self.people.split: self.metrics}}
        return replace(record, judged=replace(record.judged, baselines=baselines))


def read_checked_twin(stored: Snapshot, space: EmbeddingSpace) -> Snapshot:
    """Return a twin's store. Raises: UsageError where its weights are those of the encoder itself."""
    if space.weights_sha256 == stored.space.weights_sha256:
        raise UsageError(
            "--random-twin: expected a store of an encoder with random weights, got the weights of --store itself; "
            "make one: extract-embeddings --encoder random:base"
        )
    refuse_trained(stored)
    return stored


def refuse_trained(stored: Snapshot) -> None:
    """Raises: UsageError where a twin's store says that its encoder was trained, or may have been."""
    if stored.encoder is not None and not stored.encoder.is_untrained:
        raise UsageError(
            f"--random-twin: expected a store of an encoder with random weights, got {stored.encoder.describe()}; "
            "make one: extract-embeddings --encoder random:base"
        )


def describe_twin_space(space: EmbeddingSpace, stored: Snapshot) -> list[str]:
    """Give what to say of a twin's store, the fields in which it is no exact twin first."""
    mine, theirs = space.to_dict(), stored.space.to_dict()
    unlike = [name for name in mine if name not in ITS_OWN and mine[name] != theirs[name]]
    inexact = [f"no exact twin: the two stores differ in {', '.join(unlike)}"] if unlike else []
    return inexact if stored.encoder else [*inexact, AT_ITS_WORD]


def open_twin(cohort: Cohort, twin_cohort: Cohort, stored: Snapshot) -> tuple[FeatureSource, list[str]]:
    """Give the twin's vectors of the participants that both stores hold, and what to say where they differ.

    Raises: CohortError where train or val has nobody in common, or a class of train has nobody.
    """
    both = twin_cohort.table["participant"].isin(cohort.table["participant"]).to_numpy()
    table = twin_cohort.table[both].reset_index(drop=True)
    kept = replace(
        twin_cohort,
        table=table,
        position=twin_cohort.position[both],
        brightness=None if twin_cohort.brightness is None else twin_cohort.brightness[both],
    )
    ours, sizes = cohort.sizes(), kept.sizes()
    empty = [name for name, people in sizes["train"].get("per_class", {}).items() if not people]
    if not sizes["val"]["participants"] or empty:
        raise CohortError(
            f"--random-twin: its store and --store share {sizes['train']['participants']} participants of train and "
            f"{sizes['val']['participants']} of val{', nobody of ' + ', '.join(empty) if empty else ''}; "
            f"extract the same volumes into both"
        )
    notes = [
        f"{split}: the twin has {sizes[split]['participants']} of {ours[split]['participants']} participants"
        for split in ("train", "val")
        if sizes[split]["participants"] < ours[split]["participants"]
    ]
    if set(table["volume"]) != set(cohort.table["volume"]):
        notes.append("the two stores hold different volumes")
    if strangers := same_number_only(people_of(table), people_of(cohort.table)):
        notes.append(f"{len(strangers)} participants share no volume in the two stores, and are paired by number alone")
    return source_on(kept, stored), notes


def stand_beside(
    ours: Predictions,
    cohort: Cohort,
    space: EmbeddingSpace,
    twin_cohort: Cohort,
    stored: Snapshot,
    choose: Callable[[FeatureSource], ModelSpec],
    *,
    replicates: int,
    seed: int,
) -> Twin:
    """Choose and fit on the twin's vectors as it was done on the encoder's, and compare on the same participants.

    ours: the run's own participant predictions. choose: the run's own search, made anew on the twin's train.
    Raises: CohortError where too few participants are in both.
    """
    notes = describe_twin_space(space, stored)
    source, unlike = open_twin(cohort, twin_cohort, stored)
    spec = choose(source)
    table, classes = source.table(spec.features), cohort.task.classes
    model = fit_model(spec, table.only("train"), classes=len(classes), seed=seed)
    people = judged_of(model.predict(table.only(ours.split), classes=len(classes), split=ours.split))
    metrics, difference = judge_twin(ours, people, classes, replicates=replicates, seed=seed)
    told = {
        "space": stored.space_id,
        "embedding_space": stored.space.to_dict(),
        "encoder_source": stored.encoder.to_record() if stored.encoder else None,
        "parameters": dict(spec.parameters),
        "participants": {split: size["participants"] for split, size in source.cohort.sizes().items()},
        "notes": [*unlike, *notes],
    }
    return Twin(model, replace(people, model=RANDOM_TWIN), metrics, difference, told)


def look_beside(
    ours: Predictions,
    record: RunRecord,
    model: FittedModel,
    twin_cohort: Cohort,
    stored: Snapshot,
    *,
    replicates: int,
    seed: int,
) -> Twin:
    """Predict the locked split with the twin's model of a finished run, on the participants that both stores hold.

    ours: the run's own participant predictions of that split. model: the twin's, as the run keeps it.
    """
    classes = twin_cohort.task.classes
    table = source_on(twin_cohort, stored).table(model.features).only(ours.split)
    both = np.isin(table.unit, ours.unit)
    people = judged_of(model.predict(table.where(both), classes=len(classes), split=ours.split))
    metrics, difference = judge_twin(ours, people, classes, replicates=replicates, seed=seed)
    return Twin(model, replace(people, model=RANDOM_TWIN), metrics, difference, record.rivals.random_twin or {})


def check_twin_of_run(record: RunRecord, stored: Snapshot, twin_cohort: Cohort, split: str) -> None:
    """Refuse another store than that of the run's twin, or one that holds nobody of the split.

    Raises: UsageError (the run has no twin), RunFolderError (another space), CohortError.
    """
    if not record.rivals.random_twin:
        raise UsageError(
            f"--random-twin: run {record.id} was made without one; make it with classify probe --random-twin"
        )
    if stored.space_id != record.rivals.random_twin["space"]:
        raise RunFolderError(
            f"--random-twin: the twin of run {record.id} was fitted on embedding space "
            f"{record.rivals.random_twin['space']}, this store holds {stored.space_id}; give the store that the twin "
            f"was fitted on"
        )
    if not twin_cohort.sizes()[split]["participants"]:
        raise CohortError(f"--random-twin: its store holds nobody of {split}; extract the same volumes into both")


def judge_twin(
    ours: Predictions, theirs: Predictions, classes: Sequence[str], *, replicates: int, seed: int
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Give the twin's metrics, and ours minus the twin's, both on the participants that the two predicted.

    ours, theirs: participant predictions of one split, each sorted by participant.
    """
    common = rows_of(ours, np.isin(ours.unit, theirs.unit))
    drawn = draw_replicates(common.participant, replicates=replicates, seed=seed)
    (_, values), (metrics, beside) = (measure(part, drawn, classes) for part in (common, theirs))
    return metrics, paired_differences(values, beside, common, classes)
