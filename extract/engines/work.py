"""What an engine is given: first what it opens itself with, then one pass over the bucket."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from extract.bucket.source import TransferCounts
from extract.device.backend import Backend
from extract.engines.account import Account
from extract.load import VolumeLoader
from extract.options import ExtractOptions
from extract.preset import Preset
from extract.progress import Progress
from extract.stages import StageClock
from extract.stop import StopRequest
from extract.targets import Job, OpenedEncoder, Target


@dataclass(frozen=True)
class Opened:
    """What was opened on this machine before any store; options: what it takes to open it again elsewhere."""

    options: ExtractOptions
    preset: Preset
    backend: Backend
    encoders: Sequence[OpenedEncoder]


@dataclass(frozen=True)
class Pass:
    """The volumes of a run, where they go, and who is told what was done.

    jobs: may still be coming in. counts: of what the loader asks the bucket for, and of what is asked elsewhere.
    """

    jobs: Iterable[Job]
    targets: Sequence[Target]
    loader: VolumeLoader
    backend: Backend
    clock: StageClock
    counts: TransferCounts
    progress: Progress
    stop: StopRequest


@runtime_checkable
class Engine(Protocol):
    """Whoever does the work of a pass. It touches no store before ``run``."""

    @property
    def workers(self) -> Mapping[str, int]:
        """Give the number of threads of each stage, on all machines together."""

    def describe(self) -> str:
        """Say what was chosen, in a line or a few."""

    def run(self, work: Pass) -> Account:
        """Make a row, or an error row, of every job in every store that lacks it, in any order.

        Ends early, with what was begun, when ``work.stop`` asks for it.
        Raises what must stop the run: RunError, StoreError; then, too, no row is half-written.
        """
