"""The main verb: encode every volume of a bucket once, and lose none of them.

select_volumes -> missing_rows -> fetch -> read_dicom -> preprocess -> make_batches -> encode -> write_row (commit last)
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from time import time_ns
from typing import Any

import numpy as np

from embeddings_store.errors import VolumeError
from embeddings_store.reader import reader_on
from embeddings_store.room import require_room
from embeddings_store.schema import VolumeFailure
from embeddings_store.writer import StoreWriter, open_writer
from extract.ahead import read_ahead
from extract.device.select import open_device
from extract.encode import BatchEncoder, EncodedBatch, SubmittedBatch, build_space
from extract.encoder.open import open_encoder
from extract.load import FailedVolume, LoadedVolume, describe_failure, new_loader
from extract.options import ExtractOptions
from extract.pooling import parse_token_grid
from extract.preset import load_preset
from extract.progress import Progress, show_progress
from extract.selection import select_volumes
from extract.stages import StageClock
from extract.summary import Outcome, summarise
from extract.worker import worker_record

BUDGET_BYTES = 1_000_000_000  # raw and preprocessed volumes in flight: a handful of full-size ones, many small ones
BATCH_SIZES = {"cpu": 1}  # one volume keeps every core busy, and its row cannot depend on its neighbours
ACCELERATOR_BATCH_SIZE = 8
BATCHES_BEHIND = {"cpu": 0}  # the CPU has nothing to overlap with: each row is committed at once


def extract(options: ExtractOptions) -> dict[str, Any]:
    """Encode what the bucket holds and the store lacks; give the summary of the run.

    Whatever can stop a run is tried before the store is touched: bucket, listing, preset, encoder, device.
    Raises RunError, StoreError, UsageError; the failure of a volume is an error row instead.
    """
    clock = StageClock()
    selection = select_volumes(options, now_ns=time_ns())
    source, selected = selection.source, selection.refs
    preset = load_preset(options.preset)
    encoder = open_encoder(**options.choice.arguments())
    backend = open_device(options.device, options.precision)

    grid = parse_token_grid(options.tokens, encoder.architecture.grid)
    batch_size = options.batch_size or BATCH_SIZES.get(backend.name, ACCELERATOR_BATCH_SIZE)
    batch_encoder = BatchEncoder(
        encoder, backend, layers=options.layers, pools=options.pools, token_grid=grid, batch_size=batch_size
    )
    space = build_space(
        encoder,
        preset.to_dict(),
        layers=options.layers,
        pools=options.pools,
        token_grid=grid,
        precision=backend.precision,
        token_dtype=options.token_dtype,
    )
    require_room(options.store, space, [ref.key for ref in selected])
    writer = open_writer(options.store, space, endpoint_url=options.endpoint_url, worker=worker_record(backend))

    writer.add_volumes(selected)
    missing = writer.missing_rows([ref.key for ref in selected])
    load = new_loader(source, preset, encoder.architecture.image_size, clock)
    loaded = read_ahead(missing, load, threads=options.streams, budget_bytes=BUDGET_BYTES, cost_bytes=load.cost_bytes)
    with show_progress(len(missing)) as progress:
        batches = make_batches(quarantine_failures(loaded, writer, progress), batch_size)
        for batch, encoded in encode_batches(batch_encoder, batches, clock, behind=BATCHES_BEHIND.get(backend.name, 1)):
            with clock.time("write"):
                write_batch(writer, batch, encoded, progress)
    return summarise(Outcome(options, selection, missing, reader_on(writer.storage), backend, source.counts, clock))


def quarantine_failures(
    loaded: Iterable[LoadedVolume | FailedVolume], writer: StoreWriter, progress: Progress
) -> Iterator[LoadedVolume]:
    """Turn volumes that could not be loaded into error rows; pass the others on."""
    for volume in loaded:
        if isinstance(volume, FailedVolume):
            writer.write_error(volume.line.row, volume.failure)
            progress.advance(failed=True)
        else:
            yield volume


def make_batches(volumes: Iterator[LoadedVolume], batch_size: int) -> Iterator[list[LoadedVolume]]:
    """Group volumes as they come; only the last batch may be short."""
    while batch := list(islice(volumes, batch_size)):
        yield batch


def encode_batches(
    encoder: BatchEncoder, batches: Iterable[list[LoadedVolume]], clock: StageClock, *, behind: int
) -> Iterator[tuple[list[LoadedVolume], EncodedBatch]]:
    """Encode batch after batch; collect each ``behind`` batches late: the device works while the host writes."""
    waiting = deque[tuple[list[LoadedVolume], SubmittedBatch]]()
    for batch in batches:
        with clock.time("encode"):
            waiting.append((batch, encoder.submit(np.stack([volume.image for volume in batch]))))
        if len(waiting) > behind:
            yield _collect_oldest(encoder, waiting, clock)
    while waiting:
        yield _collect_oldest(encoder, waiting, clock)


def _collect_oldest(
    encoder: BatchEncoder, waiting: deque[tuple[list[LoadedVolume], SubmittedBatch]], clock: StageClock
) -> tuple[list[LoadedVolume], EncodedBatch]:
    batch, submitted = waiting.popleft()
    with clock.time("encode"):
        return batch, encoder.collect(submitted)


def write_batch(writer: StoreWriter, batch: Sequence[LoadedVolume], encoded: EncodedBatch, progress: Progress) -> None:
    """Write each volume's row, or its error row where its numbers cannot be kept."""
    for index, volume in enumerate(batch):
        failure = write_volume(writer, volume, encoded, index)
        if failure is not None:
            writer.write_error(volume.line.row, failure)
        progress.advance(failed=failure is not None)


def write_volume(writer: StoreWriter, volume: LoadedVolume, encoded: EncodedBatch, index: int) -> VolumeFailure | None:
    """Commit one row; give the reason where it cannot be."""
    tokens = {layer: grids[index] for layer, grids in encoded.tokens.items()}
    try:
        if index in encoded.failures:
            raise encoded.failures[index]
        writer.write_row(
            volume.line.row, encoded.pooled[index], tokens, volume.facts, volume.source_md5, volume.source_size
        )
    except VolumeError as error:
        return describe_failure(error)
    return None
