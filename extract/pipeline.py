"""The main verb: encode every volume of a bucket once, and lose none of them.

select_volumes -> open_encoders -> open_target -> list_jobs, and an engine: fetch -> decode -> encode -> write_row
"""

import os
from time import time_ns
from typing import Any

from embeddings_store.console import say
from embeddings_store.room import require_room
from extract.busy import RecentWork
from extract.device.select import open_device
from extract.engines.select import ENGINES
from extract.engines.work import Pass
from extract.engines.workers import choose_workers, whole_machine
from extract.load import new_loader
from extract.options import ExtractOptions
from extract.preset import load_preset
from extract.progress import show_progress
from extract.rank import find_rank
from extract.selection import select_volumes
from extract.stages import StageClock
from extract.stop import stop_on_signals
from extract.summary import Outcome, summarise
from extract.targets import list_jobs, open_encoders, open_target


def extract(options: ExtractOptions) -> dict[str, Any]:
    """Encode what the bucket holds and the stores lack; give the summary of the run.

    Whatever can stop a run is tried before a store is touched: bucket, listing, preset, encoders, device.
    Raises RunError, StoreError, UsageError; the failure of a volume is an error row instead.
    """
    clock = StageClock()
    selection = select_volumes(options, now_ns=time_ns())
    preset = load_preset(options.preset)
    backend = open_device(options.device, options.precision)
    rank, told_by = find_rank(options.rank, options.ranks, os.environ, backend.rank())
    encoders = open_encoders(options, preset, backend)
    for opened in encoders:
        require_room(opened.store, opened.space, [ref.key for ref in selection.refs])

    targets = [open_target(opened, selection.refs, options, backend, rank) for opened in encoders]
    jobs = list_jobs(targets, selection.refs, rank)
    workers = choose_workers(options, backend, encoders, whole_machine())
    say(workers.describe([opened.batches.batch_size for opened in encoders]))
    if rank.count > 1:
        say(f"rank {rank.number} of {rank.count} (by {told_by}): {len(jobs):,} volumes are this process's to do")

    loader = new_loader(selection.source, preset, encoders[0].image_size, clock, partial_reads=options.partial_reads)
    before, recent = clock.seconds(), RecentWork(clock, selection.source.counts, workers.by_stage())
    rows, unit = sum(len(job.lines) for job in jobs), "volumes" if len(targets) == 1 else "rows"
    with stop_on_signals() as stop, show_progress(rows, unit, recent.describe) as progress:
        ENGINES[options.engine](Pass(options, jobs, targets, loader, backend, workers, clock, progress, stop))
    return summarise(Outcome(options, selection, targets, jobs, rank, workers, backend, clock, before, progress, stop))
