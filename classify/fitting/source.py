"""Raw features of a cohort by choice: one place that knows the store's vectors, read once and cut as often as asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float32

from classify.cohort.identity import mark_volumes, other_objects
from classify.cohort.table import COLUMNS, Cohort
from classify.cohort.tasks import task_of_record
from classify.errors import RunFolderError
from classify.features.fused import stores_of_space
from classify.features.table import FeatureChoice, FeatureTable, make_features
from classify.features.tokens import TokenSnapshot, with_tokens
from classify.fitting.model import load_model
from classify.run.folder import Run
from classify.run.record import RunRecord
from embeddings_store.errors import UsageError
from embeddings_store.snapshot import Snapshot, read_features_source
from embeddings_store.space import EmbeddingSpace

KEPT_TABLES = 4
"""A table of 25,000 volumes x 768 channels takes 77 MB; the choices asked for last are kept. Of patch tokens, one."""

ReadTokens = Callable[[Cohort, FeatureChoice], FeatureTable]
"""Reads the patch tokens of a choice with a token_grid, one row a line of the cohort's table."""


@dataclass(frozen=True)
class FeatureSource:
    """The pooled vectors of a cohort's volumes (cohort.position points into them), and how to read its tokens."""

    cohort: Cohort
    pooled: Float32[np.ndarray, "rows L P C"]
    space: EmbeddingSpace
    read_tokens: ReadTokens | None = None
    _tables: dict[FeatureChoice, FeatureTable] = field(default_factory=dict, repr=False, compare=False)
    _splits: dict[str, "FeatureSource"] = field(default_factory=dict, repr=False, compare=False)

    def table(self, choice: FeatureChoice) -> FeatureTable:
        """Give the raw features of a choice, one row a line of the cohort's table.

        Raises: UsageError where the store does not hold the layer, a pool or the tokens.
        """
        if choice not in self._tables:
            while len(self._tables) >= (KEPT_TABLES if choice.token_grid is None else 1):
                self._tables.pop(next(iter(self._tables)))
            self._tables[choice] = self._make(choice)
        return self._tables[choice]

    def only(self, split: str) -> "FeatureSource":
        """Return one split, copied at the first wish and then kept: all that looks at it shares its vectors."""
        if split not in self._splits:
            self._splits[split] = self.among((split,))
        return self._splits[split]

    def among(self, splits: Sequence[str]) -> "FeatureSource":
        """Keep some splits."""
        return self.where(self.cohort.table["split"].isin(splits).to_numpy())

    def where(self, here: Bool[np.ndarray, " n"]) -> "FeatureSource":
        """Keep the lines of a mask over the cohort's table."""
        brightness, thumbnails = self.cohort.brightness, self.cohort.thumbnails
        cohort = replace(
            self.cohort,
            table=self.cohort.table[here].reset_index(drop=True),
            position=np.arange(int(here.sum()), dtype=np.int64),
            brightness=None if brightness is None else brightness[here],
            thumbnails=None if thumbnails is None else thumbnails.take(here),
        )
        return FeatureSource(cohort, self.pooled[self.cohort.position[here]], self.space, self.read_tokens)

    def _make(self, choice: FeatureChoice) -> FeatureTable:
        if choice.token_grid is None:
            return make_features(
                self.cohort, self.pooled, self.space, layer=choice.layer, pools=choice.pools, views=choice.views
            )
        if self.read_tokens is None:
            raise UsageError("patch tokens were asked for, but nothing here reads them from the store")
        return self.read_tokens(self.cohort, choice)


def source_on(cohort: Cohort, stored: Snapshot) -> FeatureSource:
    """Give the features of a cohort that was joined with a snapshot; its tokens too where it knows its store."""
    read_tokens = stored.read_tokens if isinstance(stored, TokenSnapshot) else None
    return FeatureSource(cohort, stored.pooled, stored.space, read_tokens)


def rebuild_features(run: Run, store: str, *, endpoint_url: str | None = None) -> FeatureTable:
    """Read the store again and give what a run's head saw: standardised features of its cohort, in its order.

    Raises: RunFolderError where the store holds another space, or no longer holds a volume of the run as it was.
    """
    snapshot = read_features_source(store, endpoint_url=endpoint_url)
    return features_of_run(run, with_tokens(snapshot, store, endpoint_url=endpoint_url))


def features_of_run(run: Run, snapshot: Snapshot) -> FeatureTable:
    """Do the same on a snapshot that was read already: for the head alone, as model.predict refuses them."""
    model = load_model(run)
    return source_of_run(run, snapshot).table(model.features).standardised(model.standardiser)


def source_of_run(run: Run, snapshot: Snapshot) -> FeatureSource:
    """Give the raw features of a run's cohort, in its order. Raises: RunFolderError as rebuild_features does."""
    check_same_space(run.record, snapshot)
    place = {volume: number for number, volume in enumerate(snapshot.index["volume"])}
    if missing := sum(volume not in place for volume in run.cohort["volume"]):
        raise RunFolderError(
            f"run {run.record.id}: {missing} of its {len(run.cohort)} volumes are not in this store; give "
            f"the store that it was made from, to which new people can be added"
        )
    position = run.cohort["volume"].map(place).to_numpy(np.int64)
    require_same_objects(run, snapshot)
    table = run.cohort[list(COLUMNS)]
    cohort = Cohort(table, position, task_of_record(run.record), run.record.asked.phantom, run.record.cohort.flow)
    return source_on(cohort, snapshot)


def require_same_objects(run: Run, snapshot: Snapshot) -> None:
    """Raises: RunFolderError where a snapshot holds other scans than the run under the same keys."""
    found = other_objects(mark_volumes(snapshot), run.cohort, same_space=run.record.asked.space == snapshot.space_id)
    if found:
        raise RunFolderError(
            f"run {run.record.id}: {len(found)} of its {len(run.cohort)} volumes are other objects in the store "
            f"now, under the same keys ({', '.join(sorted(found)[:3])}); it was fitted on the scans of then: "
            f"make the run again"
        )


KEPT = ("layers", "pools", "views", "token_grid", "token_dtype", "token_cosine_error")
"""Fields of a space that say what was kept of the encoder's output, and change none of what two stores both hold."""


def refuse_one_of_several(record: RunRecord, snapshot: Snapshot) -> None:
    """Raises: RunFolderError where a run reads several stores, and here is one."""
    names = stores_of_space(record.asked.embedding_space)
    if names and not stores_of_space(snapshot.space.to_dict()):
        raise RunFolderError(
            f"run {record.id}: it reads the stores {', '.join(names)} side by side, here is one store; classify "
            f"evaluate and predict take all of them: {' '.join(f'--store {name}=ADDRESS' for name in names)}"
        )


def check_comparable(record: RunRecord, snapshot: Snapshot) -> None:
    """Refuse vectors that a run's model cannot read: made otherwise than those that it was fitted on.

    What else a store keeps (tokens, views, other layers) does not matter. Raises: RunFolderError naming the fields.
    """
    refuse_one_of_several(record, snapshot)
    mine, theirs = record.asked.embedding_space, snapshot.space.to_dict()
    unlike = sorted(name for name in mine | theirs if name not in KEPT and mine.get(name) != theirs.get(name))
    if unlike:
        raise RunFolderError(
            f"run {record.id}: made in the embedding space {record.asked.space}, the store holds {snapshot.space_id}, "
            f"which differs in {', '.join(unlike)}; extract the volumes as those of the run were"
        )


def check_same_space(record: RunRecord, snapshot: Snapshot) -> None:
    """Raises: RunFolderError where a snapshot holds another embedding space than the run was made in."""
    refuse_one_of_several(record, snapshot)
    if snapshot.space_id != record.asked.space:
        raise RunFolderError(
            f"run {record.id}: made in the embedding space {record.asked.space}, the store holds "
            f"{snapshot.space_id}; give the store that the run was made from"
        )
