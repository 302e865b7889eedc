"""What a person should know, after a pass, of the processes that did it."""

import resource
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embeddings_store.encoding_cost import EncodingCost, record_encoding_cost
from extract.device.backend import Backend
from extract.targets import OpenedEncoder, Target


@dataclass(frozen=True, slots=True)
class Account:
    """Of one process or of several. batch_sizes: as they ended, by target; peak_rss_mb, peak_device_mb:
    of the largest process, and of the device that held most (None on CPUs). encoded, encode_seconds: volumes, and what
    they took of the encoders, by target."""

    device: str
    batch_sizes: tuple[int, ...]
    compilations: int
    fallbacks: Mapping[str, int]
    peak_rss_mb: float
    peak_device_mb: float | None
    processes: int = 1
    encoded: tuple[int, ...] = ()
    encode_seconds: tuple[float, ...] = ()


def account_here(backend: Backend, encoders: Sequence[OpenedEncoder]) -> Account:
    """Account for this process."""
    return Account(
        device=backend.name,
        batch_sizes=tuple(one.batches.batch_size for one in encoders),
        compilations=backend.compilations(),
        fallbacks=dict(backend.fallbacks()),
        peak_rss_mb=round(_peak_rss_mb(), 1),
        peak_device_mb=None if backend.name == "cpu" else round(backend.peak_memory_bytes() / 1e6, 1),
        encoded=tuple(one.batches.volumes for one in encoders),
        encode_seconds=tuple(round(one.batches.seconds, 4) for one in encoders),
    )


def account_together(accounts: Sequence[Account]) -> Account:
    """Account for at least one process; batches are those of the process with the smallest."""
    fallbacks = Counter[str]()
    for one in accounts:
        fallbacks.update(one.fallbacks)
    return Account(
        device=", ".join(sorted({one.device for one in accounts})),
        batch_sizes=min(one.batch_sizes for one in accounts),
        compilations=sum(one.compilations for one in accounts),
        fallbacks=dict(fallbacks),
        peak_rss_mb=max(one.peak_rss_mb for one in accounts),
        peak_device_mb=max((one.peak_device_mb for one in accounts if one.peak_device_mb is not None), default=None),
        processes=len(accounts),
        encoded=tuple(map(sum, zip(*(one.encoded for one in accounts), strict=True))),
        encode_seconds=tuple(map(sum, zip(*(one.encode_seconds for one in accounts), strict=True))),
    )


def keep_costs(targets: Sequence[Target], account: Account, usd_per_hour: float | None, *, at_once: int) -> None:
    """Write into each store what its encoder took of the machine in this pass. Raises StoreError.

    at_once: forwards of all processes together, which wait for the machine at the same time.
    """
    for target, volumes, seconds in zip(targets, account.encoded, account.encode_seconds, strict=True):
        if volumes:
            cost = EncodingCost(
                volumes, seconds / at_once, account.peak_rss_mb, account.device, len(targets), usd_per_hour
            )
            record_encoding_cost(target.writer.storage, target.writer.worker_id, cost)


def _peak_rss_mb() -> float:
    """Give the largest resident memory of this process so far; the kernel counts KiB on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
