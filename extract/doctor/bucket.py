"""The bucket: can it be reached, how fast does it list and give, and do a few volumes come through every stage?"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean, median
from time import perf_counter

import numpy as np
from jaxtyping import Float32

from embeddings_store.index import IndexRow
from embeddings_store.machine import usable_cores
from embeddings_store.schema import ObjectInfo, VolumeRef
from extract.bucket.catalogue import list_volumes
from extract.bucket.open import open_source
from extract.bucket.source import Fetched, Source, Wanted
from extract.doctor.report import Check, Report, Status, measured
from extract.encoder.encoder import Encoder
from extract.layouts.options import LayoutOptions
from extract.load import FailedVolume, LoadedVolume, new_loader
from extract.needs import needs_of
from extract.preset import Recipe
from extract.stages import StageClock

LISTED_KEYS = 5_000
"""Five pages of S3: enough for a rate, and seconds at most."""

STAGES = ("fetch", "decode", "preprocess", "encode")

Encode = Callable[[Float32[np.ndarray, "C D H W"]], Float32[np.ndarray, "N C"]]


@dataclass(frozen=True, slots=True)
class Samples:
    """A few volumes of the bucket: the encoder's inputs, and its tokens where there is an encoder."""

    images: list[Float32[np.ndarray, "C D H W"]]
    tokens: list[Float32[np.ndarray, "N C"]]


class TimedSource:
    """A source that keeps the time and the bytes of its fetches; asked by one thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.counts = source.name, source.counts
        self.seconds, self.received = 0.0, 0

    def list_objects(self, folder: str = "") -> Iterator[ObjectInfo]:
        """List as the source does."""
        return self._source.list_objects(folder)

    def fetch(self, wanted: Wanted) -> Fetched:
        """Fetch, and add to time and bytes."""
        start = perf_counter()
        fetched = self._source.fetch(wanted)
        self.seconds += perf_counter() - start
        self.received += len(fetched.data)
        return fetched

    def read_optional(self, key: str) -> bytes | None:
        """Read as the source does."""
        return self._source.read_optional(key)


def examine_bucket(
    bucket: str, prefix: str, endpoint_url: str | None, layout: LayoutOptions | None = None
) -> tuple[Report, tuple[Source, list[VolumeRef]]]:
    """Open and list a bucket; give its source and volumes. Raises BucketError."""
    source = open_source(bucket, prefix, endpoint_url, streams=1, layout=layout)
    start = perf_counter()
    keys = sum(1 for _ in islice(source.list_objects(), LISTED_KEYS))
    rate = keys / (perf_counter() - start)
    listing = list_volumes(source)
    words = (
        f"{source.name}: {len(listing.refs):,} volumes among {listing.listed:,} objects; "
        f"the first {keys:,} keys listed at {rate:,.0f} keys/s"
    )
    figures = {"volumes": len(listing.refs), "listed": listing.listed, "skipped": dict(listing.skipped)}
    report = Report((Check("bucket", Status.OK, words),), figures) + measured({"list_keys_per_second": round(rate, 1)})
    return report, (source, listing.refs)


@dataclass(frozen=True, slots=True)
class Computing:
    """What the sample volumes are encoded with. device: "cpu", "cuda" ..."""

    encoder: Encoder
    device: str
    encode: Encode


def examine_volumes(
    source: Source, refs: Sequence[VolumeRef], count: int, recipe: Recipe, computing: Computing | None
) -> tuple[Report, Samples]:
    """Take a few volumes, spread over the listing, through every stage, one after the other.

    The stages' times are the medians of those that come through: the first one also starts what is not running yet.
    Raises BucketError when the bucket goes away.
    """
    timed, samples = TimedSource(source), Samples([], [])
    failed: list[FailedVolume] = []
    through: list[tuple[LoadedVolume, StageClock]] = []
    load = new_loader(timed, recipe, StageClock())
    for number, ref in enumerate(spread(refs, count)):
        clock = StageClock()
        volume = replace(load, clock=clock)(IndexRow(number, ref))
        if isinstance(volume, FailedVolume):
            failed += [volume] if not volume.failure.whole else []  # the other is a part of a volume that may be read
            continue
        if computing is not None:
            with clock.time("encode"):
                samples.tokens.append(computing.encode(volume.image))
        samples.images.append(volume.image)
        through.append((volume, clock))
    stages = _describe_stages(through, computing) if through else Report()
    return _describe_volumes(timed, samples, failed) + stages, samples


def spread(refs: Sequence[VolumeRef], count: int) -> list[VolumeRef]:
    """Choose volumes evenly from the first to the last of a listing: keys begin with the device, so several come."""
    places = np.linspace(0, len(refs) - 1, min(count, len(refs))).round().astype(int)
    return [refs[place] for place in places]


def _describe_volumes(timed: TimedSource, samples: Samples, failed: Sequence[FailedVolume]) -> Report:
    good, all_tried = len(samples.images), len(samples.images) + len(failed)
    rate = timed.received / timed.seconds if timed.seconds > 0 else None
    words = f"{good} of {all_tried} sample volumes came through"
    if rate is not None:
        words += f"; one stream gives {rate / 1e6:,.1f} MB/s"
    if failed:
        reasons = Counter(volume.failure.error for volume in failed)
        words += f"; failed: {', '.join(f'{name} {n}' for name, n in reasons.items())} ({failed[0].failure.message})"
    status = Status.OK if not failed else Status.WARN if good else Status.FAIL
    figures = {"sample_volumes": good, "sample_errors": dict(Counter(volume.failure.error for volume in failed))}
    speed = measured({"bytes_per_second_per_stream": rate}, {"bytes_per_second_per_stream": "nothing was fetched"})
    return Report((Check("volumes", status, words),), figures) + speed


def _describe_stages(through: Sequence[tuple[LoadedVolume, StageClock]], computing: Computing | None) -> Report:
    """Say how long each stage took, and what a device at work needs of its host for that."""
    taken = [clock.seconds() for _, clock in through]
    stages = [stage for stage in STAGES if computing is not None or stage != "encode"]
    seconds = {stage: round(median(one[stage] for one in taken), 3) for stage in stages}
    size = fmean(volume.source_size for volume, _ in through)
    first, count = through[0][0], f"median of {len(through)} volumes" if len(through) > 1 else "one volume"
    facts, said = first.facts, ", ".join(f"{stage} {value:.3f} s" for stage, value in seconds.items())
    shape = f"such as {first.line.ref.volume}: {facts.frames} frames of {facts.rows} x {facts.columns}"
    words = f"{count} of {size / 1e6:,.1f} MB ({shape}): {said}"
    figures = {"sample_volume": str(first.line.ref.volume), "stage_seconds": seconds}
    report = Report((Check("stages", Status.OK, words),), figures)
    if computing is None:
        return report + Report(absent={"needs": "without an encoder nothing says how fast a device is"})
    needs = needs_of(computing.encoder, size, seconds, computing.device)
    if needs is None:
        return report + Report(absent={"needs": "an ONNX graph does not tell its operations"})
    words = f"{needs.describe()}; this machine has {usable_cores()} cores"
    return report + Report((Check("feeding", Status.OK, words),), {"needs": needs.to_dict()})
