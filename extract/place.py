"""Where this process stands among others, and which of this machine's devices are its own."""

import os
from dataclasses import dataclass

from embeddings_store.ranks import Rank
from embeddings_store.terminal.console import say
from extract.device.here import Devices, Wanted, find_devices
from extract.device.select import resolve
from extract.device.tpu import describe_missing_hosts, find_host
from extract.options import ExtractOptions
from extract.rank import ALONE, Surroundings, describe_loneliness, find_rank, find_turn, has_neighbours


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many processes this is, where that was learnt, and what it computes on."""

    rank: Rank
    told_by: str
    devices: Devices


def find_place(options: ExtractOptions, surroundings: Surroundings = os.environ) -> Place:
    """Find a process's place; say what speaks against it. Raises: UsageError, DeviceError.

    The volumes of a Ray cluster are shared out from one place, whatever scheduler started it.
    """
    if options.engine == "ray":
        return Place(Rank(0, 1), ALONE, Devices("cpu", {}))
    machine = find_host(surroundings) if options.rank is None and resolve(options.device) == "xla" else None
    of_pod = (machine.number, machine.count) if machine else (0, 1)
    rank, told_by = find_rank(options.rank, options.ranks, surroundings, of_pod)
    typed = options.rank is not None and (options.gpus, options.tpu_chips) == (None, None)
    turn = find_turn(rank, surroundings) if typed or has_neighbours(surroundings) else None
    lonely = describe_loneliness(rank, surroundings) or (machine and describe_missing_hosts(machine, surroundings))
    if lonely:
        say(f"{lonely}; this process does every volume: say --rank and --ranks where others do the same")
    wanted = Wanted(options.gpus, options.tpu_chips)
    return Place(rank, told_by, find_devices(options.device, wanted, turn, surroundings))
