"""What a few real volumes of a bucket take in each stage of the host, for a run that is only planned."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import numpy as np

from embeddings_store.index import IndexRow
from embeddings_store.schema import VolumeRef
from extract.load import FailedVolume, LoadedVolume, VolumeLoader
from extract.stages import StageClock

SAMPLED = 3
HOST = ("fetch", "decode", "preprocess")


@dataclass(frozen=True, slots=True)
class SampleTimes:
    """seconds: by stage of HOST, medians of the volumes that came through; None where none did.

    volume_bytes: of one of them, on average. failure: the first one's reason, or "".
    """

    tried: int
    through: int
    seconds: dict[str, float] | None
    volume_bytes: float
    failure: str

    def describe(self) -> str:
        """Say it in a line."""
        failed = f"; failed: {self.failure}" if self.failure else ""
        if self.seconds is None:
            return f"timed: none of {self.tried} volumes came through{failed}"
        stages = ", ".join(f"{stage} {value:.3f} s" for stage, value in self.seconds.items())
        size = f"{self.volume_bytes / 1e6:,.1f} MB"
        return f"timed here, one after the other: {self.through} of {self.tried} volumes of {size}: {stages}{failed}"

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON object."""
        failed = {"failed": self.failure} if self.failure else {}
        seconds = {"stage_seconds": self.seconds} if self.seconds else {"absent": "no volume came through"}
        return {"tried": self.tried, "through": self.through, **seconds, **failed}


def spread(refs: Sequence[VolumeRef], count: int) -> list[VolumeRef]:
    """Choose volumes evenly from the first to the last of a listing: keys begin with the device, so several come."""
    places = np.linspace(0, len(refs) - 1, min(count, len(refs))).round().astype(int)
    return [refs[place] for place in places]


def time_samples(load: VolumeLoader, refs: Sequence[VolumeRef], count: int = SAMPLED) -> SampleTimes:
    """Fetch, decode and preprocess a few volumes, one after the other. Raises BucketError when the bucket goes away."""
    through: list[tuple[LoadedVolume, dict[str, float]]] = []
    failures: list[str] = []
    chosen = spread(refs, count)
    for number, ref in enumerate(chosen):
        clock = StageClock()
        volume = replace(load, clock=clock)(IndexRow(number, ref))
        if isinstance(volume, FailedVolume):
            failures.append(f"{volume.failure.error} ({volume.failure.message})")
        else:
            through.append((volume, clock.seconds()))
    seconds = {stage: round(median(one[stage] for _, one in through), 3) for stage in HOST} if through else None
    size = fmean(volume.source_size for volume, _ in through) if through else 0.0
    return SampleTimes(len(chosen), len(through), seconds, size, failures[0] if failures else "")
