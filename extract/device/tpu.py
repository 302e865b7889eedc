"""The TPU chips of this machine, and which of how many machines of a slice it is: what the runtime knows of itself.

TPU VMs export no variable that says so: torch_xla asks the machine's metadata. Kubernetes exports two, which count.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from extract.errors import DeviceError

PCI_DEVICES = Path("/sys/bus/pci/devices")
GOOGLE = "0x1ae0"
CHIPS = frozenset({"0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"})
"""PCI device ids of TPU v2 and v3, v4, v5p, v5e, v6e, v7; Google's network cards have its vendor id, too."""

COUNTED_IN_CORES = ("v2", "v3", "v4", "v5p")
"""Whose slices are named by TensorCores, two a chip; those of the others by chips."""

DEVICE_GB = {"v2": 8, "v3": 16, "v4": 32, "v5litepod": 16, "v5e": 16, "v5p": 95, "v6e": 32}
"""Of what torch_xla calls a device: a chip, of v2 and v3 a TensorCore. https://cloud.google.com/tpu/docs/system-architecture-tpu-vm"""

FIRST_PORT = 8476  # as torch_xla numbers the ports of its processes
VISIBLE_CHIPS = "TPU_VISIBLE_CHIPS"
BOUNDS = "TPU_CHIPS_PER_PROCESS_BOUNDS"
"""Set where somebody has decided already which chips this process takes."""

INSTALL = "make an environment of its own with pip install 'octprobe[tpu]', or use another --device"

UNKNOWN = (OSError, LookupError, TypeError, ValueError)
"""What asking the metadata raises: of requests, of YAML, or because the answer has another format."""


@dataclass(frozen=True, slots=True)
class TpuHost:
    """One machine of a slice: which of how many, counted from 0, and its chips, as the runtime numbers them.

    first_address: of the first machine, where it is known.
    """

    number: int
    count: int
    chips: tuple[str, ...]
    first_address: str = ""


def chips_on_bus(devices: Path = PCI_DEVICES) -> int:
    """Count the TPU chips that the machine has, whatever is installed to use them."""
    return sum(_read(one / "vendor") == GOOGLE and _read(one / "device") in CHIPS for one in devices.glob("*"))


def runtime_kind() -> str | None:
    """Give what torch_xla computes on here ("TPU", "CPU" ...), None where there is none, nor anything to use it for.

    "TPU", too, where the machine has one and torch_xla cannot be loaded: opening the device then says why.
    Raises DeviceError where a machine with TPU chips lacks torch_xla.
    """
    promised = os.environ.get("PJRT_DEVICE") == "TPU"
    if find_spec("torch_xla") is None:
        if chips := chips_on_bus():
            raise DeviceError(
                f"device auto: expected torch_xla for the {chips} TPU chips of this machine, and it is not installed; "
                f"{INSTALL}"
            )
        return None
    try:
        return str(import_module("torch_xla.runtime").device_type())
    except ImportError:
        return "TPU" if promised or chips_on_bus() else None


def find_chips(surroundings: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Give the chips of this machine that this process may use; none where torch_xla has no TPU to compute on."""
    if find_spec("torch_xla") is None or runtime_kind() != "TPU":
        return ()
    try:
        count = _runtime().num_available_chips()
    except ImportError:
        return ()
    return _words(surroundings.get(VISIBLE_CHIPS, "")) or tuple(map(str, range(count)))


def find_host(surroundings: Mapping[str, str] = os.environ) -> TpuHost | None:
    """Ask which machine of a slice this is; None where there is no TPU. Raises DeviceError where nobody knows."""
    chips = find_chips(surroundings)
    if not chips:
        return None
    if (told := _told(surroundings)) is not None:
        return TpuHost(*told, chips, _words(surroundings["TPU_WORKER_HOSTNAMES"])[0])
    runtime = _runtime()
    try:
        hosts = runtime.get_worker_ips()
        return TpuHost(int(runtime.worker_id()) if len(hosts) > 1 else 0, len(hosts), chips, str(hosts[0]))
    except UNKNOWN as error:
        raise DeviceError(
            f"device xla: the TPU's metadata does not say which of how many machines this is ({type(error).__name__}); "
            "say --rank and --ranks: 0 and 1 for a machine alone"
        ) from error


def accelerator_type(surroundings: Mapping[str, str] = os.environ) -> str:
    """Name the slice as Google does ("v4-32"); "" where nobody tells."""
    try:
        return surroundings.get("TPU_ACCELERATOR_TYPE") or str(_runtime().get_tpu_env()["ACCELERATOR_TYPE"])
    except UNKNOWN:
        return ""


def chip_memory_bytes(accelerator: str) -> int | None:
    """Give the memory of a device of a slice, as "v5litepod-8"; None where the kind is not known."""
    gb = DEVICE_GB.get(accelerator.partition("-")[0])
    return None if gb is None else gb * 10**9


def describe_missing_hosts(host: TpuHost, surroundings: Mapping[str, str] = os.environ) -> str | None:
    """Say that a slice must have more machines than are known; None where all is well, or nothing tells."""
    kind = accelerator_type(surroundings)
    found = re.fullmatch(r"(v\d+\w*)-(\d+)", kind)
    if found is None or host.count > 1:
        return None
    chips = int(found[2]) // (2 if found[1] in COUNTED_IN_CORES else 1)
    here = _runtime().num_available_chips()
    if chips <= here:
        return None
    return f"a slice {kind} has {chips} chips, this machine has {here}, and the TPU's metadata names no other machine"


def one_chip(chip: str, order: int = 0) -> dict[str, str]:
    """Give the variables by which a process takes one chip for itself, without waiting for other machines.

    order: which of the processes of this machine it is; each listens at a port of its own.
    """
    port = str(FIRST_PORT + order)
    return {
        VISIBLE_CHIPS: chip,
        BOUNDS: "1,1,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_ADDRESSES": f"localhost:{port}",
        "TPU_PROCESS_PORT": port,
        "CLOUD_TPU_TASK_ID": "0",
    }


def take_chip(turn: int) -> None:
    """Take one of this machine's chips for this process, before anything is computed; one that it has already stays.

    turn: which of the processes of this machine it is. Had it all chips, libtpu would wait for every other machine.
    """
    if BOUNDS not in os.environ and (chips := find_chips()):
        number = turn % len(chips)
        os.environ.update(one_chip(chips[number], number))


def _told(surroundings: Mapping[str, str]) -> tuple[int, int] | None:
    """Read what Kubernetes tells a machine of a slice: its number, and the names of all."""
    number, hosts = surroundings.get("TPU_WORKER_ID", ""), _words(surroundings.get("TPU_WORKER_HOSTNAMES", ""))
    return (int(number), len(hosts)) if number.isdecimal() and hosts else None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _runtime() -> ModuleType:
    """Give the part of torch_xla that asks the metadata; it starts nothing on the device."""
    return import_module("torch_xla._internal.tpu")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
