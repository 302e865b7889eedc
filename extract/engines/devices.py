"""The engine of several GPUs or TPU chips of this machine: a process for each, one progress line, one summary."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from embeddings_store.machine import usable_cores
from extract.device.here import NOUNS, Devices
from extract.engines.cluster import Seat
from extract.engines.process_cluster import ProcessCluster
from extract.engines.sharing import engine_on
from extract.engines.work import Engine, OpenedEncoders
from extract.options import ExtractOptions


@contextmanager
def open_devices(devices: Devices, opened: OpenedEncoders) -> Iterator[Engine]:
    """Give the engine whose workers are processes, each with one of the devices. Raises: RunError."""
    device: Literal["cuda", "xla"] = "cuda" if devices.kind == "cuda" else "xla"
    count = len(devices.surroundings)
    cores = max(1, usable_cores() // count)
    seats = [Seat("", "", cores, device, count, number) for number in devices.surroundings]
    cluster = ProcessCluster(f"{NOUNS[device]}s", seats, devices.surroundings)
    with engine_on(cluster, replace(opened, options=share_of(opened.options, count))) as engine:
        yield engine


def share_of(options: ExtractOptions, count: int) -> ExtractOptions:
    """Divide what the user said of the whole machine among so many processes."""

    def share(threads: int) -> int:
        return max(1, threads // count)

    return replace(
        options,
        streams=share(options.streams),
        decoders=options.decoders and share(options.decoders),
        writers=options.writers and share(options.writers),
    )
