"""The volumes of the test split of a finished run: which they are, and how they are read once they may be."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from classify.cohort.identity import other_objects
from classify.cohort.join import join_cohort
from classify.cohort.table import BRIGHTNESS, Cohort
from classify.cohort.tables import CohortTables
from classify.errors import CohortError, RunFolderError
from classify.evaluating.look import TEST
from classify.run.folder import MODEL, Run
from embeddings_store.numpy_file import read_numpy
from embeddings_store.regular_file import require_regular
from embeddings_store.terminal.console import say
from embeddings_store.thumbnails import Thumbnails, thumbnails_of
from extract.bucket.catalogue import list_volumes
from extract.bucket.source import Source
from extract.load import VolumeLoader
from extract.progress import show_progress
from finetune.data.images import ImageCache
from finetune.data.volumes import index_of, mark_listed, read_volumes
from finetune.parallel.processes import OneProcess

BRIGHTNESS_FILE, THUMBNAILS_FILE = "brightness.parquet", "thumbnails.npz"
NOT_ENCODED = np.zeros(1, np.float32)
"""Nothing is predicted while volumes are read: copies are known by their brightness."""

IN_INDEX = ["volume", "participant", "eye", "device", "protocol", "site", "notes", *BRIGHTNESS]


@dataclass(frozen=True)
class Unlocked:
    """The cohort of a run with what could be read of its test split, and what could not, by error class."""

    cohort: Cohort
    failures: dict[str, int]


def save_seen(cohort: Cohort, folder: Path) -> None:
    """Keep what baselines of test are fitted on: how bright the scans of train and val are, and thumbnails of train.

    A copy is known by its brightness.
    """
    if cohort.brightness is not None:
        known = cohort.brightness[(cohort.table["split"] != TEST).to_numpy()]
        known.to_parquet(folder / BRIGHTNESS_FILE, index=False)
    if cohort.thumbnails is not None:
        here = (cohort.table["split"] == "train").to_numpy() & cohort.thumbnails.known
        volume, images = cohort.table["volume"].to_numpy(str)[here], cohort.thumbnails.images[here]
        np.savez_compressed(folder / THUMBNAILS_FILE, volume=volume, images=images)


def rebuild_cohort(run: Run, tables: CohortTables) -> Cohort:
    """Join the volumes of a run with the participants table again: the run's own cohort where the table is the same.

    Raises: CohortError, RunFolderError (damaged).
    """
    return _join(run, tables, _index_of_run(run))


def read_test(run: Run, tables: CohortTables, source: Source, load: VolumeLoader, images: ImageCache) -> Unlocked:
    """Fetch, decode and keep the volumes of test, and leave out what the rules of every cohort leave out.

    Raises: CohortError where the bucket does not hold them, or none can be used; LeakError where one scan stands under
    two participants; BucketError.
    """
    locked = set(run.cohort.loc[run.cohort["split"] == TEST, "volume"])
    refs = tables.labels.own_refs([ref for ref in list_volumes(source).refs if ref.volume in locked])
    if len(refs) < len(locked):
        raise CohortError(
            f"--bucket: expected the {len(locked)} volumes of test of run {run.record.id}, found {len(refs)} of "
            "them; give the bucket and --prefix that the run was made from"
        )
    with show_progress(len(refs)) as progress:
        read = read_volumes(
            refs, lambda _: True, load, images, lambda _: NOT_ENCODED,
            lambda failed: progress.advance(failed=failed), processes=OneProcess(),
        )  # fmt: skip
    index = _index_of_run(run)
    seen = pd.concat([index[~index["volume"].isin(locked)], index_of(read)], ignore_index=True)
    pictures = _thumbnails_of_run(run) | {
        line.ref.volume: picture for line, picture in zip(read.lines, read.thumbnails.images, strict=True)
    }
    thumbnails = thumbnails_of([pictures.get(volume) for volume in seen["volume"]])
    cohort = _join(run, tables, seen[[name for name in IN_INDEX if name in seen]], thumbnails)
    failures = Counter(one.failure.error for one in read.failures if not one.failure.whole)
    kept = cohort.table.loc[cohort.table["split"] == TEST, "volume"]
    if left_out := len(read.lines) - len(kept):
        failures["constant, or a copy"] = left_out
    if kept.empty:
        raise CohortError(f"run {run.record.id}: no volume of test can be used ({dict(failures)})")
    _check_objects(run, mark_listed([ref for ref in refs if ref.volume in set(kept)], source))
    return Unlocked(cohort, dict(failures))


def _check_objects(run: Run, marked: pd.DataFrame) -> None:
    """Name volumes of test that are other objects than when the run was made. Raises: CohortError where most are."""
    others = len(other_objects(marked, run.cohort, same_space=True))
    said = (
        f"--bucket: {others} of {len(marked)} volumes of test of run {run.record.id} are other objects now, under "
        "the same keys"
    )
    if 2 * others > len(marked):
        raise CohortError(f"{said}; give the bucket as it was, or make the run again")
    if others:
        say(said)


def _join(run: Run, tables: CohortTables, index: pd.DataFrame, thumbnails: Thumbnails | None = None) -> Cohort:
    """Join with the brightness in the place of vectors: it is of one scan and its copies alone."""
    numbers = index[list(BRIGHTNESS)].to_numpy(np.float64, copy=True)
    unknown = ~np.isfinite(numbers).all(axis=1)
    numbers[unknown] = np.flatnonzero(unknown)[:, None]  # finite, and like no other
    high = numbers.astype(np.float32)
    vectors = np.hstack([high, (numbers - high).astype(np.float32)])
    lines = tables.labels.of(index).lines
    cohort = join_cohort(
        index, vectors[:, None, None], lines, tables.task, vouched=None, thumbnails=thumbnails,
        leaks=tables.labels.published.leaks,
    )  # fmt: skip
    return tables.beside(replace(cohort, phantom=bool(run.record.asked.phantom)))


def _index_of_run(run: Run) -> pd.DataFrame:
    """Say of each volume of a run what an index of a store says; of an older run without any brightness."""
    index = run.cohort[["volume", "participant", "eye", "device", "protocol", "site"]].assign(notes=0)
    path = run.folder / MODEL / BRIGHTNESS_FILE
    if not path.exists():
        return index.assign(**dict.fromkeys(BRIGHTNESS, np.nan))
    try:
        require_regular(path)
        return index.merge(pd.read_parquet(path), on="volume", how="left")
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(f"run {run.record.id}: {BRIGHTNESS_FILE} cannot be read; make the run again") from error


def _thumbnails_of_run(run: Run) -> dict[str, np.ndarray]:
    """Give the thumbnail of each volume of train; an older run kept none."""
    path = run.folder / MODEL / THUMBNAILS_FILE
    if not path.exists():
        return {}
    try:
        kept = read_numpy(path)
        return dict(zip(kept["volume"].tolist(), kept["images"], strict=True))
    except (OSError, ValueError, EOFError, KeyError, IndexError, BadZipFile) as error:
        raise RunFolderError(f"run {run.record.id}: {THUMBNAILS_FILE} cannot be read; make the run again") from error
