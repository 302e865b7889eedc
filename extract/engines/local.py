"""The engine of one machine: threads for each stage, which hand volumes on in whatever order they are ready.

fetch -> decode, preprocess -> encode -> write. What is in flight is bounded in bytes and in volumes, so that a slow
stage holds up the ones before it instead of filling the memory.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch

from embeddings_store.schema import VolumeFailure
from extract.engines.account import Account, account_here
from extract.engines.budget import Budget
from extract.engines.channel import Channel
from extract.engines.crew import Crew
from extract.engines.encoding import Batch, Encoded, EncodedVolume, encode_batches, make_batches
from extract.engines.shared_iterator import SharedIterator
from extract.engines.work import Engine, OpenedEncoders, Pass
from extract.engines.workers import Workers, choose_workers, whole_machine
from extract.failures import attempt
from extract.load import DecodedVolume, raw_bytes
from extract.preset import Recipe
from extract.scan import AnyFetched
from extract.targets import Job
from extract.thumbnail import make_thumbnail

BATCHES_BEHIND = {"cpu": 0}  # the CPU has nothing to overlap with: each row is committed at once


@contextmanager
def open_local(opened: OpenedEncoders) -> Iterator[Engine]:
    """Give the engine that works in this process."""
    yield LocalEngine(opened, choose_workers(opened.options, opened.backend, opened.encoders, whole_machine()))


class LocalEngine:
    """Does a pass with threads of this process."""

    def __init__(self, opened: OpenedEncoders, threads: Workers) -> None:
        self._opened, self._threads = opened, threads

    @property
    def workers(self) -> Mapping[str, int]:
        """Give the number of threads of each stage."""
        return self._threads.by_stage()

    def describe(self) -> str:
        """Say it in a line."""
        return self._threads.describe([one.batches.batch_size for one in self._opened.encoders])

    def run(self, work: Pass) -> Account:
        """Do the pass."""
        run_local(work, self._threads)
        return account_here(work.backend, self._opened.encoders)


def run_local(work: Pass, workers: Workers) -> None:
    """Do the pass with threads of this process."""
    threads_before = torch.get_num_threads()
    budget = Budget(workers.budget_bytes, workers.volumes_in_flight)
    fetched = Channel[tuple[Job, AnyFetched]](makers=workers.fetch)
    ready = Channel[tuple[Job, DecodedVolume]](makers=workers.decode)
    encoded = Channel[Encoded](makers=workers.encode, capacity=2 * workers.write)
    crew = Crew([budget, fetched, ready, encoded])
    # What the encoder has begun is finished and written; whatever was only read is read again by the next run.
    work.stop.tell(budget.give_up, fetched.give_up, ready.give_up)

    jobs = SharedIterator(work.jobs)
    batches = SharedIterator(make_batches(ready, work.targets, partial(_let_go, work, budget)))
    crew.start(
        "fetch", workers.fetch, partial(fetch_volumes, work, jobs, budget, fetched), fetched.leave, awaited=False
    )
    crew.start("decode", workers.decode, partial(decode_volumes, work, fetched, budget, ready), ready.leave)
    crew.start("encode", workers.encode, partial(encode_volumes, work, workers, batches, encoded), encoded.leave)
    crew.start("write", workers.write, partial(write_rows, work, encoded), _nothing_more)
    try:
        crew.join()
    finally:
        torch.set_num_threads(threads_before)  # the threads above set what later ones begin with, too


def fetch_volumes(work: Pass, jobs: Iterable[Job], budget: Budget, fetched: Channel[tuple[Job, AnyFetched]]) -> None:
    """Fetch volume after volume, each as soon as there is room for it."""
    for job in jobs:
        budget.take(raw_bytes(job.ref) + _images_bytes(work, job))
        found = attempt("fetch", partial(work.loader.fetch, job.ref, _recipes(work, job)))
        if isinstance(found, VolumeFailure):
            budget.give_back(raw_bytes(job.ref) + _images_bytes(work, job), volumes=1)
            quarantine(work, job, found)
        else:
            fetched.put((job, found))


def decode_volumes(
    work: Pass,
    fetched: Iterable[tuple[Job, AnyFetched]],
    budget: Budget,
    ready: Channel[tuple[Job, DecodedVolume]],
) -> None:
    """Decode each volume once, and resize it for every encoder that lacks it."""
    torch.set_num_threads(1)  # of this thread: the decoders share the cores among themselves
    for job, raw in fetched:
        found = attempt("decode", partial(work.loader.decode, job.ref, raw, _recipes(work, job)))
        del raw
        budget.give_back(raw_bytes(job.ref))
        if isinstance(found, VolumeFailure):
            budget.give_back(_images_bytes(work, job), volumes=1)
            quarantine(work, job, found)
        else:
            ready.put((job, found))


def encode_volumes(work: Pass, workers: Workers, batches: Iterable[Batch], encoded: Channel[Encoded]) -> None:
    """Encode batch after batch."""
    torch.set_num_threads(workers.forward_threads)
    behind = BATCHES_BEHIND.get(work.backend.name, 1)
    for volume in encode_batches(batches, work.targets, work.clock, behind=behind):
        encoded.put(volume)


def write_rows(work: Pass, encoded: Iterable[Encoded]) -> None:
    """Write each volume's row, or its error row where its numbers cannot be kept."""
    for one in encoded:
        with work.clock.time("write"):
            failure = attempt("write", partial(_write, work, one)) if isinstance(one, EncodedVolume) else one.failure
            if failure is not None:
                work.targets[one.target].writer.write_error(one.volume.line.row, failure)
        work.progress.advance(failed=failure is not None)


def quarantine(work: Pass, job: Job, failure: VolumeFailure) -> None:
    """Write why an object never reached an encoder, in every store that lacks it; a part of a volume is no failure."""
    if work.stop.signal_number is not None:
        return
    for number, line in job.lines.items():
        with work.clock.time("write"):
            work.targets[number].writer.write_error(line.row, failure)
        work.progress.advance(failed=not failure.whole)


def _write(work: Pass, one: EncodedVolume) -> None:
    volume = one.volume
    work.targets[one.target].writer.write_row(
        volume.line.row, one.pooled, one.tokens, volume.facts, volume.source_md5, volume.source_size,
        make_thumbnail(volume.image[0]),
    )  # fmt: skip


def _let_go(work: Pass, budget: Budget, job: Job) -> None:
    budget.give_back(_images_bytes(work, job), volumes=1)


def _images_bytes(work: Pass, job: Job) -> int:
    """Give what the inputs of a volume take: one for each recipe, however many encoders share it."""
    return sum(work.loader.input_bytes(recipe) for recipe in _recipes(work, job))


def _recipes(work: Pass, job: Job) -> list[Recipe]:
    """Give what the encoders that lack a volume need made of it."""
    return list(dict.fromkeys(work.targets[number].recipe for number in job.lines))


def _nothing_more() -> None:
    """Leave no channel: nobody comes after the writers."""
