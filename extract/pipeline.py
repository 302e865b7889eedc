"""The main verb: encode every volume of a bucket once, and lose none of them.

select_volumes -> open_encoders -> open_target -> list_jobs, and an engine: fetch -> decode -> encode -> write_row
"""

from time import time_ns
from typing import Any

from embeddings_store.presence import at_work
from embeddings_store.room import require_room
from embeddings_store.terminal.console import say
from extract.all_slices import with_frames_of_bucket
from extract.busy import RecentWork
from extract.dataset_labels import keep_dataset
from extract.engines.account import keep_costs
from extract.engines.select import choose_engine
from extract.engines.work import OpenedEncoders, Pass
from extract.load import new_loader
from extract.options import ExtractOptions
from extract.place import find_place
from extract.progress import show_progress
from extract.selection import select_volumes
from extract.stages import StageClock
from extract.stop import stop_on_signals
from extract.summary import Outcome, summarise
from extract.targets import list_jobs, open_encoders, open_target, require_volumes


def extract(options: ExtractOptions) -> dict[str, Any]:
    """Encode what the bucket holds and the stores lack; give the summary of the run.

    Whatever can stop a run is tried before a store is touched: bucket, listing, preset, encoders, device.
    Raises RunError, StoreError, UsageError; the failure of a volume is an error row instead.
    """
    clock = StageClock()
    selection = select_volumes(options, now_ns=time_ns())
    options = with_frames_of_bucket(options, selection)
    place = find_place(options)
    rank, (open_engine, backend) = place.rank, choose_engine(options, place.devices)
    encoders = open_encoders(options, backend)
    require_volumes([one.encoder for one in encoders], selection.catalogue.listing)
    for opened in encoders:
        require_room(opened.store, opened.space, [ref.key for ref in selection.refs])

    with open_engine(OpenedEncoders(options, backend, encoders)) as engine:
        say(engine.describe())
        targets = [open_target(opened, selection.refs, options, backend, rank) for opened in encoders]
        if rank.number == 0:
            stores = [one.writer.storage for one in targets]
            keep_dataset(stores, selection.source, selection.catalogue.listing, selection.refs)
        jobs = list_jobs(targets, selection.refs, rank)
        if rank.count > 1:
            mine = f"{len(jobs):,} volumes are this process's to do"
            say(f"rank {rank.number} of {rank.count} (by {place.told_by}): {mine}")

        source, workers = selection.source, engine.workers
        loader = new_loader(
            source,
            encoders[0].recipe,
            clock,
            partial_reads=options.partial_reads,
            views=options.views,
            allowed=options.allowed_classes,
            room=backend.room,
        )
        before, recent = clock.seconds(), RecentWork(clock, source.counts, workers)
        rows, unit = sum(len(job.lines) for job in jobs), "volumes" if len(targets) == 1 else "rows"
        with (
            stop_on_signals() as stop,
            show_progress(rows, unit, recent.describe) as progress,
            at_work(targets[0].writer.storage, targets[0].writer.worker_id, rank) as presence,
        ):
            account = engine.run(Pass(jobs, targets, loader, backend, clock, source.counts, progress, stop))
    keep_costs(targets, account, options.usd_per_hour, at_once=max(1, workers["encode"]))
    return summarise(
        Outcome(
            options, selection, targets, jobs, rank, presence, workers, account, clock, before, progress, stop,
        )
    )  # fmt: skip
