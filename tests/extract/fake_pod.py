"""TPU slices without a TPU: a torch_xla of which each thread believes that it is one machine of a slice."""

import sys
from dataclasses import dataclass
from pathlib import Path
from threading import local

import pytest

HOST = local()
"""number: which machine of the slice a thread plays."""


@dataclass(frozen=True)
class Pod:
    """A slice as Google names it: machines, and chips of each."""

    kind: str
    hosts: int
    chips: int


PODS = [Pod("v4-8", 1, 4), Pod("v4-32", 4, 4), Pod("v5litepod-8", 1, 8), Pod("v5litepod-16", 4, 4)]

RUNTIME = """
import os
def device_type():
    return os.environ.get("PJRT_DEVICE", "TPU")
"""

TPU = """
from fake_pod import HOST
def num_available_chips():
    return {chips}
def get_worker_ips():
    return ["10.0.0.%d" % host for host in range({hosts})] if {hosts} > 1 else ["localhost"]
def worker_id():
    return HOST.number
def get_tpu_env():
    return {{"ACCELERATOR_TYPE": {kind!r}}}
"""

NO_METADATA = """
def num_available_chips():
    return 4
def get_worker_ips():
    raise OSError("no metadata server")
get_tpu_env = get_worker_ips
"""


def install(folder: Path, patch: pytest.MonkeyPatch, tpu: str, runtime: str = RUNTIME) -> None:
    """Put a torch_xla in front of everything that is installed; it knows of no variable that a TPU VM lacks."""
    for name in ("PJRT_DEVICE", "TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES", "TPU_VISIBLE_CHIPS"):
        patch.delenv(name, raising=False)
    package = folder / "fake" / "torch_xla"
    (package / "_internal").mkdir(parents=True)
    for path, text in (("__init__", ""), ("runtime", runtime), ("_internal/__init__", ""), ("_internal/tpu", tpu)):
        (package / f"{path}.py").write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_xla"]:
        patch.delitem(sys.modules, name)
    patch.syspath_prepend(package.parent)


def install_pod(folder: Path, patch: pytest.MonkeyPatch, pod: Pod) -> None:
    """Become a slice; the calling thread plays its first machine."""
    install(folder, patch, TPU.format(chips=pod.chips, hosts=pod.hosts, kind=pod.kind))
    HOST.number = 0


def forget() -> None:
    """Let no later test find the modules of this one."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_xla"]:
        del sys.modules[name]
