"""The volumes to learn from: read from the bucket once, kept preprocessed on disk, joined with the participants."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float32

from classify.cohort.label_lines import KEYS
from classify.cohort.questions import Task
from classify.cohort.table import BRIGHTNESS, Cohort
from classify.cohort.tables import CohortTables
from classify.errors import CohortError
from classify.run.record import FlowStep
from embeddings_store.index import IndexRow
from embeddings_store.schema import RowFacts, VolumeRef, site_of
from embeddings_store.thumbnails import Thumbnails, thumbnails_of
from extract.bucket.source import RangeSource, Source
from extract.encode import BatchEncoder
from extract.failures import describe_failure
from extract.load import FailedVolume, LoadedVolume, VolumeLoader
from extract.thumbnail import make_thumbnail
from finetune.data.ahead import read_ahead
from finetune.data.images import ImageCache
from finetune.data.kept_vectors import KeptVectors
from finetune.parallel.processes import Processes

STREAMS = 32
BUDGET_BYTES = 1_000_000_000  # raw and preprocessed volumes in flight
VectorOf = Callable[[LoadedVolume], Float32[np.ndarray, " C"] | FailedVolume]
"""What stands for a volume in the join with the participants: copies have equal vectors."""

SELECTED_BY_VAL = "predicted, and used to choose the best epoch: its numbers are optimistic"


@dataclass(frozen=True)
class ReadVolumes:
    """What was read, and what stays locked.

    lines: volumes with a vector, and the locked ones, whose "vector" is only their row number.
    vectors: as VectorOf makes them. facts: what the files told; None of locked volumes. thumbnails: of all others.
    failures: volumes that could not be used.
    """

    lines: list[IndexRow]
    vectors: Float32[np.ndarray, "rows 1 1 C"]
    facts: list[RowFacts | None]
    failures: list[FailedVolume]
    thumbnails: Thumbnails


def is_open(ref: VolumeRef, task: Task, split_of: Mapping[tuple[str, ...], str]) -> bool:
    """Say whether a volume may be read: its unit is of train or val, with a label that the task knows."""
    return split_of.get(tuple(str(getattr(ref, name)) for name in KEYS[task.level])) in {"train", "val"}


def open_splits(lines: pd.DataFrame, task: Task) -> dict[tuple[str, ...], str]:
    """Return the split of each unit, by its KEYS, whose label the task knows."""
    labelled = lines[lines["group"].isin(list(task.class_of))]
    keys = labelled[list(KEYS[task.level])].astype(str).itertuples(index=False, name=None)
    return dict(zip(keys, labelled["split"], strict=True))


def read_volumes(
    refs: Sequence[VolumeRef],
    may_read: Callable[[VolumeRef], bool],
    load: VolumeLoader,
    images: ImageCache,
    vector_of: VectorOf,
    advance: Callable[[bool], None],
    *,
    processes: Processes,
) -> ReadVolumes:
    """Fetch, preprocess, keep and encode every volume that may be read; the others are only counted.

    advance(failed) is called after each volume. Each process reads its share, and learns what the others found.
    Raises RunError where the run cannot go on.
    """
    lines = [IndexRow(row, ref) for row, ref in enumerate(refs)]
    opened = [line for line in lines if may_read(line.ref)]
    images.require_room([line.ref for line in opened], load.recipe.image_size)
    vectors: dict[int, np.ndarray] = {}
    facts: dict[int, RowFacts] = {}
    pictures: dict[int, np.ndarray] = {}
    failures: list[FailedVolume] = []
    loaded = read_ahead(
        processes.share(opened),
        lambda line: _load_kept(line, load, images),
        threads=STREAMS,
        budget_bytes=BUDGET_BYTES,
        cost_bytes=load.cost_bytes,
    )
    for volume in loaded:
        given = vector_of(volume) if isinstance(volume, LoadedVolume) else volume
        if isinstance(given, FailedVolume):
            failures.append(given)
        elif isinstance(volume, LoadedVolume):
            vectors[volume.line.row], facts[volume.line.row] = given, volume.facts
            pictures[volume.line.row] = make_thumbnail(volume.image[0])
        advance(isinstance(given, FailedVolume))
    gathered = processes.gather((vectors, facts, pictures))
    vectors = {row: vector for part, _, _ in gathered for row, vector in part.items()}
    facts = {row: told for _, part, _ in gathered for row, told in part.items()}
    pictures = {row: picture for _, _, part in gathered for row, picture in part.items()}
    failed_by_row = {failure.line.row: failure for part in processes.compare(failures) for failure in part}
    failures = list(failed_by_row.values())  # what one of the hosts of a slice could not read, none of them may use
    vectors = {row: vector for row, vector in vectors.items() if row not in failed_by_row}
    for line in opened:
        images.adopt(line.ref)
    if not vectors:
        raise CohortError(
            f"none of {len(opened)} volumes that may be read could be used, of {len(refs)} in the bucket; do bucket "
            f"and participants table belong together?{_first_reason(failures)}"
        )
    failed = {failure.line.row for failure in failures}
    kept = [line for line in lines if line.row not in failed]
    # A locked volume needs a vector that is finite and like no other: its row number.
    width = len(next(iter(vectors.values())))
    stacked = np.stack([vectors.get(line.row, np.full(width, line.row, np.float32)) for line in kept])
    failures.sort(key=lambda failure: failure.line.row)
    seen = thumbnails_of([pictures.get(line.row) for line in kept])
    return ReadVolumes(kept, stacked[:, None, None], [facts.get(line.row) for line in kept], failures, seen)


def make_cohort(read: ReadVolumes, tables: CohortTables) -> Cohort:
    """Join what was read with the participants, by the rules of the probes; failures become steps of the flow.

    Raises: CohortError; LeakError where one scan stands under two participants.
    """
    cohort = tables.join_rows(index_of(read), read.vectors, read.thumbnails)
    return replace(cohort, flow=_describe_flow(cohort.flow, read))


def mark_listed(refs: Sequence[VolumeRef], source: Source) -> pd.DataFrame:
    """Give what volumes of a bucket are known by again, as mark_volumes does: a folder's etag changes with a copy."""
    tells = isinstance(source, RangeSource) and source.far
    return pd.DataFrame(
        {
            "volume": [str(ref.volume) for ref in refs],
            "participant": [str(ref.participant) for ref in refs],
            "size": [ref.size for ref in refs],
            "etag": [ref.etag if tells else "" for ref in refs],
        }
    )


def index_of(read: ReadVolumes) -> pd.DataFrame:
    """Say of each line what an index of a store says; of brightness only where any volume was opened."""
    index = pd.DataFrame(
        {
            "volume": [line.ref.volume for line in read.lines],
            "participant": [line.ref.participant for line in read.lines],
            "eye": [str(line.ref.eye) for line in read.lines],
            "device": [line.ref.device for line in read.lines],
            "protocol": [line.ref.protocol for line in read.lines],
            "site": [site_of(line.ref.participant, line.ref.site) for line in read.lines],
            "notes": [int(facts.notes) if facts else 0 for facts in read.facts],
            "unread": ~read.thumbnails.known,
        }
    )
    told = [astuple(facts.intensity) if facts and facts.intensity else None for facts in read.facts]
    if any(told):
        unknown = (np.nan,) * len(BRIGHTNESS)
        brightness = pd.DataFrame([each or unknown for each in told], columns=list(BRIGHTNESS))
        index = pd.concat([index, brightness], axis=1)
    return index


@dataclass(frozen=True)
class EncodedVector:
    """The mean-pooled vector of the starting encoder; stored: by volume, those that need no encoding.

    kept: what an earlier start of the same run has encoded. One volume is alone in its batch, so that copies of a scan
    have equal vectors.
    """

    encoder: BatchEncoder
    stored: Mapping[str, Float32[np.ndarray, " C"]]
    kept: KeptVectors

    def __call__(self, volume: LoadedVolume) -> Float32[np.ndarray, " C"] | FailedVolume:
        """Take or make the vector."""
        if volume.line.ref.volume in self.stored:
            return self.stored[volume.line.ref.volume]
        if (known := self.kept.read(volume.line.ref)) is not None:
            return known
        encoded = self.encoder.encode(volume.image[None])
        if encoded.failures:
            return FailedVolume(volume.line, describe_failure(encoded.failures[0]))
        pooled: np.ndarray = encoded.pooled[0, 0, 0]
        self.kept.write(volume.line.ref, pooled)
        return pooled


def _load_kept(line: IndexRow, load: VolumeLoader, images: ImageCache) -> LoadedVolume | FailedVolume:
    kept = images.read(line)
    if kept is not None:
        return kept
    loaded = load(line)
    if isinstance(loaded, LoadedVolume):
        return images.write(loaded)
    return loaded


def _describe_flow(flow: list[FlowStep], read: ReadVolumes) -> list[FlowStep]:
    """Begin with the bucket, name the failures by class, and say what val was used for."""
    everything = [*(line.ref for line in read.lines), *(failure.line.ref for failure in read.failures)]
    failed: dict[str, list[FailedVolume]] = defaultdict(list)
    for failure in read.failures:
        failed[failure.failure.error].append(failure)
    steps = [_step("store", "total", everything, "volumes of the bucket; those of test are not opened")]
    for error, volumes in sorted(failed.items()):
        stage, example = volumes[0].failure.stage, volumes[0].failure.message
        refs = [volume.line.ref for volume in volumes]
        steps.append(_step(error, "excluded", refs, f"failed at {stage}; for instance: {example}"))
    told: list[FlowStep] = [{**step, "reason": SELECTED_BY_VAL} if step["step"] == "val" else step for step in flow]
    return [*steps, *(step for step in told if step["step"] != "store")]


def _step(step: str, kind: str, refs: Sequence[VolumeRef], reason: str) -> FlowStep:
    people = len({ref.participant for ref in refs})
    return {"step": step, "kind": kind, "volumes": len(refs), "participants": people, "reason": reason}


def _first_reason(failures: Sequence[FailedVolume]) -> str:
    return f" (first failure: {failures[0].failure.message})" if failures else ""
