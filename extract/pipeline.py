"""The main verb: encode every volume of a bucket once, and lose none of them.

select_volumes -> open_encoders -> open_target -> list_jobs, and an engine: fetch -> decode -> encode -> write_row
"""

import os
from collections.abc import Mapping
from time import time_ns
from typing import Any

from embeddings_store.extras import require
from embeddings_store.room import require_room
from embeddings_store.terminal.console import say
from extract.all_slices import with_frames_of_bucket
from extract.busy import RecentWork
from extract.device.select import open_device
from extract.engines.select import DEVICE_HERE, ENGINES
from extract.engines.work import OpenedEncoders, Pass
from extract.load import new_loader
from extract.options import ExtractOptions
from extract.progress import show_progress
from extract.rank import find_rank
from extract.selection import select_volumes
from extract.stages import StageClock
from extract.stop import stop_on_signals
from extract.summary import Outcome, summarise
from extract.targets import list_jobs, open_encoders, open_target, require_volumes

SURROUNDINGS: dict[str, Mapping[str, str]] = {"local": os.environ, "ray": {}}
"""Where a rank may be read; the volumes of a cluster are shared out from one place, whatever scheduler started it."""


def extract(options: ExtractOptions) -> dict[str, Any]:
    """Encode what the bucket holds and the stores lack; give the summary of the run.

    Whatever can stop a run is tried before a store is touched: bucket, listing, preset, encoders, device.
    Raises RunError, StoreError, UsageError; the failure of a volume is an error row instead.
    """
    if options.views:
        require("monai", "--views")
    clock = StageClock()
    selection = select_volumes(options, now_ns=time_ns())
    options = with_frames_of_bucket(options, selection)
    backend = open_device(DEVICE_HERE.get(options.engine, options.device), options.precision)
    rank, told_by = find_rank(options.rank, options.ranks, SURROUNDINGS[options.engine], backend.rank())
    encoders = open_encoders(options, backend)
    require_volumes([one.encoder for one in encoders], selection.catalogue.listing)
    for opened in encoders:
        require_room(opened.store, opened.space, [ref.key for ref in selection.refs])

    with ENGINES[options.engine](OpenedEncoders(options, backend, encoders)) as engine:
        say(engine.describe())
        targets = [open_target(opened, selection.refs, options, backend, rank) for opened in encoders]
        jobs = list_jobs(targets, selection.refs, rank)
        if rank.count > 1:
            say(f"rank {rank.number} of {rank.count} (by {told_by}): {len(jobs):,} volumes are this process's to do")

        source, workers = selection.source, engine.workers
        loader = new_loader(
            source,
            encoders[0].recipe,
            clock,
            partial_reads=options.partial_reads,
            views=options.views,
            allowed=options.allowed_classes,
        )
        before, recent = clock.seconds(), RecentWork(clock, source.counts, workers)
        rows, unit = sum(len(job.lines) for job in jobs), "volumes" if len(targets) == 1 else "rows"
        with stop_on_signals() as stop, show_progress(rows, unit, recent.describe) as progress:
            account = engine.run(Pass(jobs, targets, loader, backend, clock, source.counts, progress, stop))
    return summarise(Outcome(options, selection, targets, jobs, rank, workers, account, clock, before, progress, stop))
