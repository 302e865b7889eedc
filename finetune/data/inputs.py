"""What a run learns from: the cohort, its vectors, and its volumes where a stage needs them."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import pandas as pd

from classify.cohort.identity import mark_volumes
from classify.cohort.table import Cohort
from classify.cohort.tables import CohortTables
from classify.cohort.tasks import Task
from classify.features.table import FeatureTable, make_features
from embeddings_store.space import EmbeddingSpace
from extract.bucket.catalogue import list_volumes
from extract.bucket.open import open_source
from extract.device.backend import Backend
from extract.encode import BatchEncoder
from extract.encoder.encoder import Encoder
from extract.load import new_loader
from extract.preset import Recipe
from extract.progress import Progress, show_progress
from extract.stages import StageClock
from finetune.data.images import ImageCache
from finetune.data.kept_vectors import KeptVectors
from finetune.data.stored import LAYER, POOL, ReadTokens, StoredVectors
from finetune.data.volumes import (
    SELECTED_BY_VAL,
    STREAMS,
    EncodedVector,
    is_open,
    make_cohort,
    mark_listed,
    open_splits,
    read_volumes,
)
from finetune.options import PRESET, TrainingOptions
from finetune.parallel.processes import Processes


@dataclass(frozen=True)
class Inputs:
    """features: raw mean-pooled vectors of the starting encoder. failures: volumes that could not be used, by class.

    read_tokens: stored tokens, where there are. rows: volumes of the bucket or store, the locked ones included.
    marked: what all volumes of the bucket or store are known by, the locked and failed ones too; see mark_volumes.
    """

    cohort: Cohort
    features: FeatureTable
    read_tokens: ReadTokens | None
    rows: int
    marked: pd.DataFrame
    failures: dict[str, int]

    @property
    def fingerprint(self) -> str:
        """Name the cohort and its vectors."""
        return sha256(self.cohort.sha256.encode() + np.ascontiguousarray(self.features.x).tobytes()).hexdigest()


@dataclass(frozen=True)
class Reader:
    """Reads what a run learns from; test is counted, and neither opened nor predicted.

    backend: encodes what the store lacks, in the precision of ``space``. kept: what it has encoded already.
    """

    options: TrainingOptions
    task: Task
    tables: CohortTables
    encoder: Encoder
    backend: Backend
    space: EmbeddingSpace
    images: ImageCache
    processes: Processes
    stored: StoredVectors | None
    kept: KeptVectors

    def read(self) -> Inputs:
        """Read store and bucket, as far as they are needed. Raises: RunError, CohortError, LeakError, BucketError."""
        tokens = None
        if self.stored is not None and self.options.recipe.head.kind == "attentive":
            tokens = self.stored.token_reader()
        if self.options.needs_volumes:
            return self._read_bucket(tokens)
        return self._read_store(tokens)

    def _read_store(self, tokens: ReadTokens | None) -> Inputs:
        assert self.stored is not None  # noqa: S101 - needs_volumes is false only then
        found = self.stored.snapshot
        cohort = self.tables.join(found)
        flow = [step | {"reason": SELECTED_BY_VAL} if step["step"] == "val" else step for step in cohort.flow]
        cohort = replace(cohort, flow=flow)
        features = make_features(cohort, found.pooled, found.space, layer=LAYER, pools=(POOL,))
        return Inputs(cohort, features, tokens, len(found.index), mark_volumes(found), {})

    def _read_bucket(self, tokens: ReadTokens | None) -> Inputs:
        options = self.options
        assert options.bucket is not None  # noqa: S101 - require_source has seen to it
        source = open_source(options.bucket, options.prefix, options.endpoint_url, streams=STREAMS, layout=options)
        refs = list_volumes(source).refs[: options.limit]
        splits = open_splits(self.tables.labels.of(mark_listed(refs, source)).lines, self.task)
        load = new_loader(source, Recipe(PRESET, self.encoder.architecture.image_size), StageClock())
        vectors = self.stored.by_volume() if self.stored else {}
        count = len(self.processes.share([ref for ref in refs if is_open(ref, self.task, splits)]))
        first = self.processes.rank == 0
        with show_progress(count) if first else nullcontext(Progress(count)) as progress:
            advance: Callable[[bool], None] = lambda failed: progress.advance(failed=failed)  # noqa: E731
            read = read_volumes(
                refs, lambda ref: is_open(ref, self.task, splits), load, self.images,
                EncodedVector(BatchEncoder(self.encoder, self.backend), vectors, self.kept), advance,
                processes=self.processes,
            )  # fmt: skip
        cohort = make_cohort(read, self.tables)
        features = make_features(cohort, read.vectors, self.space, layer=LAYER, pools=(POOL,))
        failures = dict(Counter(one.failure.error for one in read.failures if not one.failure.whole))
        return Inputs(cohort, features, tokens, len(read.lines), mark_listed(refs, source), failures)
