"""Where the time goes: what share of its workers' time each stage was at work, and which one holds up the rest."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from extract.bucket.source import TransferCounts
from extract.stages import StageClock

WORKER_OF = {"fetch": "fetch", "decode": "decode", "preprocess": "decode", "encode": "encode", "write": "write"}
"""Whose time a stage takes: decoders also resize."""

RECENT_S = 10.0
HARDLY_BUSY = 0.5

ADVICE = {
    "fetch": "the bucket or the way to it decides: more --streams until the link is full, --where for fewer volumes, "
    "or machines nearer to the bucket",
    "decode": "decoding and resizing decide: more cores, or more machines with --rank and --ranks",
    "encode": "the encoder decides: {encode}",
    "write": "the store decides: more --writers, a smaller --tokens grid, --token-dtype int8, or a faster disk",
}
SLOW_LINE_ADVICE = (
    "the line to the bucket is slow and decides; more streams do not help: --partial-reads auto, --where for fewer "
    "volumes, or a machine nearer to the bucket"
)
ENCODE_ADVICE = {"cpu": "a GPU or a TPU, more cores, or more machines with --rank and --ranks"}
ENCODE_ADVICE_ACCELERATOR = (
    "--precision bf16, a larger --batch-size, or more devices with --gpus, --tpu-chips, or --rank and --ranks"
)
NOTHING_TO_DO = "there was nothing to do"
NO_ADVICE = "no stage was busy for half of the time: the run was too short to tell, or begun and ended slowly"


def busy_shares(
    before: Mapping[str, float], after: Mapping[str, float], workers: Mapping[str, int]
) -> dict[str, float]:
    """Give, for each kind of worker, the share of their time between two looks at a StageClock that they worked."""
    wall = after["wall"] - before.get("wall", 0.0)
    spent = dict.fromkeys(workers, 0.0)
    for stage, worker in WORKER_OF.items():
        spent[worker] += after[stage] - before.get(stage, 0.0)
    return {
        name: round(min(1.0, spent[name] / (wall * count)), 3) if wall > 0 else 0.0 for name, count in workers.items()
    }


def limiting_stage(busy: Mapping[str, float]) -> str | None:
    """Name the stage whose workers had the least rest; None where nobody was busy."""
    name = max(busy, key=lambda stage: busy[stage])
    return name if busy[name] >= HARDLY_BUSY else None


def advise(limiting: str | None, device: str, volumes: float, *, slow_line: bool = False) -> str:
    """Say in one sentence what would make a run faster that brought so many volumes to an end."""
    if limiting is None:
        return NO_ADVICE if volumes else NOTHING_TO_DO
    if limiting == "fetch" and slow_line:
        return SLOW_LINE_ADVICE
    return ADVICE[limiting].format(encode=ENCODE_ADVICE.get(device, ENCODE_ADVICE_ACCELERATOR))


@dataclass(frozen=True, slots=True)
class _Look:
    seconds: dict[str, float]
    received: int


class RecentWork:
    """The busy shares and the transfer of the last seconds, for the line that a person watches."""

    def __init__(self, clock: StageClock, counts: TransferCounts, workers: Mapping[str, int]) -> None:
        self._clock, self._counts, self._workers = clock, counts, workers
        self._looks = deque([self._look()])

    def describe(self) -> str:
        """Tell MB/s and how busy each stage is, over RECENT_S or what there is of it."""
        now = self._look()
        self._looks.append(now)
        while len(self._looks) > 2 and now.seconds["wall"] - self._looks[1].seconds["wall"] >= RECENT_S:
            self._looks.popleft()
        then = self._looks[0]
        elapsed = now.seconds["wall"] - then.seconds["wall"]
        speed = (now.received - then.received) / elapsed / 1e6 if elapsed > 0 else 0.0
        busy = busy_shares(then.seconds, now.seconds, self._workers)
        return f"{speed:,.1f} MB/s; busy: {describe_busy(busy)}"

    def _look(self) -> _Look:
        return _Look(self._clock.seconds(), self._counts.bytes)


def describe_busy(busy: Mapping[str, float]) -> str:
    """Write shares as a person reads them: fetch 93 %, decode 12 %."""
    return ", ".join(f"{stage} {share:.0%}".replace("%", " %") for stage, share in busy.items())


def describe_limit(summary: Mapping[str, Any]) -> str:
    """Say which stage limited a run, and what would help."""
    return f"busy: {describe_busy(summary['busy'])}; {summary['advice']}"
