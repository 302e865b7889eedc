"""The devices of this machine, and which of them a run uses."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from embeddings_store.errors import UsageError
from extract.device.select import resolve
from extract.device.tpu import find_chips, one_chip, take_chip
from extract.errors import DeviceError

NOUNS = {"cuda": "GPU", "xla": "chip"}
"""What a person calls one of the devices of a kind."""

FLAGS = {"cuda": "--gpus", "xla": "--tpu-chips"}
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of this machine that a run uses, by number, with what a process for each finds in its environment.

    turn: which of this machine's devices it is, where it is one.
    """

    kind: str
    surroundings: Mapping[str, Mapping[str, str]]
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What --gpus and --tpu-chips say: how many, or which; None: all."""

    gpus: int | tuple[int, ...] | None = None
    tpu_chips: int | None = None

    def of_kind(self) -> dict[str, int | tuple[int, ...] | None]:
        """Give both by the device that they belong to."""
        return {"cuda": self.gpus, "xla": self.tpu_chips}


def find_devices(
    device: str, wanted: Wanted, turn: int | None, surroundings: Mapping[str, str] = os.environ
) -> Devices:
    """Choose the devices that this process computes on: what --gpus or --tpu-chips says, else all that are here.

    turn: which of several processes of this machine this is, each with a device of its own; None: it is alone here.
    Raises: UsageError, DeviceError.
    """
    kind = resolve(device)
    asked = wanted.of_kind().get(kind)
    if asked is not None and turn is not None:
        flag = FLAGS[kind]
        raise UsageError(f"{flag}: this process is one of several, each with a {NOUNS[kind]} of its own; leave it out")
    for one, given in wanted.of_kind().items():
        if given is not None and kind != one:
            raise UsageError(f"{FLAGS[one]} belongs to --device {one}, and this run computes on {kind}")
    if kind not in FINDERS or turn is not None:
        return Devices(kind, {}, turn or 0)
    found = FINDERS[kind](surroundings)
    chosen = _choose(kind, asked, list(found))
    return Devices(kind, {number: found[number] for number in chosen}, list(found).index(chosen[0]) if chosen else 0)


def take_device(kind: str, turn: int) -> None:
    """Take one of this machine's devices for this process: its processes have them in turn, and share where they must.

    turn: which of the processes of this machine it is. A GPU becomes torch's current one.
    """
    if kind == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(turn % torch.cuda.device_count())
    if kind == "xla":
        take_chip(turn)


def _gpus(surroundings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Number the GPUs that torch sees; a process that is to see one of them finds it as it was named to this one."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [one.strip() for one in surroundings.get(VISIBLE_GPUS, "").split(",") if one.strip()]
    names = named[:count] if len(named) >= count else list(map(str, range(count)))
    return {str(number): {VISIBLE_GPUS: name} for number, name in enumerate(names)}


def _chips(surroundings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {
        chip: {"PJRT_DEVICE": "TPU", **one_chip(chip, order)} for order, chip in enumerate(find_chips(surroundings))
    }


FINDERS = {"cuda": _gpus, "xla": _chips}


def _choose(kind: str, asked: int | tuple[int, ...] | None, found: Sequence[str]) -> list[str]:
    """Take the first so many, or those that were named, or all. Raises DeviceError where one is not here."""
    noun = NOUNS[kind]
    wanted = list(found) if asked is None else list(found[:asked]) if isinstance(asked, int) else list(map(str, asked))
    missing = [one for one in wanted if one not in found]
    if missing or (isinstance(asked, int) and asked > len(found)):
        said = f"{noun} {missing[0]}" if missing else f"{asked} {noun}s"
        raise DeviceError(f"expected {said}, and this machine has {len(found)}: {', '.join(found) or 'none'}")
    return wanted
