"""Fetching of a volume what decoding will look at, where that is less than all of it."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock, Thread
from time import perf_counter
from typing import TypeAlias

from embeddings_store.schema import ObjectInfo, VolumeRef
from embeddings_store.terminal.console import say
from extract.bucket.members import FetchedMembers, fetch_members, require_present
from extract.bucket.source import Fetched, PartlyFetched, RangeRefused, RangeSource, Source, Wanted
from extract.dicom.frame_ranges import FrameRanges, Span, find_ranges, merge_spans
from extract.dicom.reader import FrameChooser
from extract.options import PartialReads
from extract.partial.choice import How, ReadChoice

Pieces: TypeAlias = tuple[tuple[int, bytes], ...]

HEAD_BYTES = 1 << 18  # the header of most scans; 512 per-frame groups take about half of it
LONGEST_HEAD_BYTES = 1 << 24  # a header that does not end before is none
GAP_BYTES = 1 << 17  # what one connection carries at 50 MB/s while the processor makes and signs one more request
RANGES_AT_ONCE = 8  # of one volume: one answer comes while the others are on their way
MOST_SHARE = 0.8  # of an object: to save less than a fifth of it is not worth the requests
TRIES = 3  # of a device's protocol that never saves enough, before its header is not looked at any more


class VolumeReader:
    """Reads volumes whole or in parts; called from many threads.

    has_room: tells whether the stages after this one could do more. mode: "auto" is left to ReadChoice, and is "off"
    for a source that is near. Whatever is not plainly sound is read whole: what is wrong with a file ends in the same
    error either way.
    """

    def __init__(
        self,
        source: Source,
        mode: PartialReads,
        *,
        has_room: Callable[[], bool],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._source = source
        self._ranges = source if isinstance(source, RangeSource) and mode != "off" else None
        self._choice = ReadChoice() if self._ranges and self._ranges.far and mode == "auto" else None
        if mode == "auto" and self._choice is None:
            self._ranges = None
        self._has_room, self._clock = has_room, clock
        self._fruitless = Counter[tuple[str, str]]()
        self._lock = Lock()

    def fetch(self, ref: VolumeRef, frames: FrameChooser | None) -> Fetched | PartlyFetched | FetchedMembers:
        """Get one object, or as much of it as these frames (None: all) need. Raises: as Source.fetch does."""
        require_present(ref)
        if ref.members:
            return fetch_members(self._source, ref, frames, look=True)
        if self._choice is None or frames is None:
            return self._read(ref, frames, "whole" if self._ranges is None else "partial")
        with self._lock:
            attempt = self._choice.begin()
        start = self._clock()
        try:
            fetched = self._read(ref, frames, attempt.how)
        except BaseException:
            with self._lock:
                self._choice.drop(attempt)
            raise
        seconds = self._clock() - start
        has_room = self._has_room()
        how: How = "partial" if isinstance(fetched, PartlyFetched) else "whole"
        with self._lock:
            said = self._choice.end(attempt, how=how, seconds=seconds, size_bytes=fetched.size, limited=has_room)
        if said:
            say(said)
        return fetched

    def _read(self, ref: VolumeRef, frames: FrameChooser | None, how: How) -> Fetched | PartlyFetched:
        kind = (ref.device, ref.protocol)
        hopeless = self._fruitless[kind] >= TRIES or 0 <= ref.size <= 2 * HEAD_BYTES
        if how == "whole" or self._ranges is None or frames is None or hopeless:
            return self._source.fetch(ref)
        found = read_parts(self._ranges, ref, frames)
        self._fruitless[kind] = 0 if found else self._fruitless[kind] + 1
        return found or self._source.fetch(ref)


@dataclass
class _Spent:
    """What one try cost."""

    requests: int = 0
    received: int = 0


def read_parts(source: RangeSource, ref: VolumeRef, frames: FrameChooser) -> PartlyFetched | None:
    """Get the header and the ranges of the frames; None where the object has to be read whole.

    The ranges are of the object that the header is of (If-Match). Raises: FetchError, BucketError.
    """
    spent = _Spent()
    parts = _try_parts(source, ref, frames, spent)
    volumes = int(parts is not None)
    saved = parts.size - spent.received if parts else -spent.received
    source.counts.add_partial(volumes=volumes, saved_bytes=saved, extra_requests=spent.requests - volumes)
    return parts


def _try_parts(source: RangeSource, ref: VolumeRef, frames: FrameChooser, spent: _Spent) -> PartlyFetched | None:
    spent.requests += 1
    try:
        start = source.fetch_range(ref, 0, HEAD_BYTES)
    except RangeRefused:
        return None
    known, head = ObjectInfo(ref.key, start.size, start.etag), start.data
    while isinstance(found := find_ranges(head, known.size, frames), int):
        if found > min(MOST_SHARE * known.size, LONGEST_HEAD_BYTES):
            break
        head += source.fetch_range(known, len(head), found).data
        spent.requests += 1
    spent.received = len(head)
    if not isinstance(found, FrameRanges):
        return None
    spans = merge_spans([(max(a, len(head)), b) for a, b in found.spans if b > len(head)], GAP_BYTES)
    wanted = sum(b - a for a, b in spans)
    if spent.received + wanted > MOST_SHARE * known.size:
        return None
    pieces = ((0, head), *fetch_spans(source, known, spans), *found.fillers)
    spent.requests, spent.received = spent.requests + len(spans), spent.received + wanted
    parts = PartlyFetched(pieces, known.size, known.etag, tuple(found.frames.tolist()))
    return parts if found.tail is None or found.hold(parts.data) else None


def fetch_spans(source: RangeSource, wanted: Wanted, spans: Sequence[Span]) -> Pieces:
    """Fetch ranges, several at once. Raises: what the first that failed raised; the others are then left."""
    waiting, pieces, failures = deque(spans), list[tuple[int, bytes]](), list[BaseException]()

    def work() -> None:
        try:
            while waiting and not failures:
                start, stop = waiting.popleft()
                pieces.append((start, source.fetch_range(wanted, start, stop).data))
        except IndexError:  # another thread took the last one
            return
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits for all
            failures.append(error)

    count = min(len(spans), RANGES_AT_ONCE if source.far else 1)
    threads = [Thread(target=work, daemon=True, name="range") for _ in range(count - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return tuple(pieces)
