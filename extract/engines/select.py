"""From --engine to what does the work."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from extract.engines.local import open_local
from extract.engines.ray import open_ray
from extract.engines.work import Engine, OpenedEncoders

ENGINES: dict[str, Callable[[OpenedEncoders], AbstractContextManager[Engine]]] = {"local": open_local, "ray": open_ray}

DEVICE_HERE = {"ray": "cpu"}
"""What is opened on the machine where the command was typed, when others do the work."""
