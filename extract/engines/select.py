"""From --engine, and the devices of this machine, to what does the work."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from extract.device.backend import Backend
from extract.device.here import Devices, take_device
from extract.device.select import open_device
from extract.engines.devices import open_devices
from extract.engines.local import open_local
from extract.engines.ray import open_ray
from extract.engines.work import Engine, OpenedEncoders
from extract.options import ExtractOptions

Open = Callable[[OpenedEncoders], AbstractContextManager[Engine]]

ENGINES: dict[str, Open] = {"local": open_local, "ray": open_ray}


def choose_engine(options: ExtractOptions, devices: Devices) -> tuple[Open, Backend]:
    """Give what does the work, and what is opened here: a device only where this process computes on it.

    Raises: DeviceError, UsageError.
    """
    if options.engine == "local" and len(devices.surroundings) > 1:
        return partial(open_devices, devices), open_device("cpu", options.precision)
    take_device(devices.kind, devices.turn)
    return ENGINES[options.engine], open_device(devices.kind, options.precision)
