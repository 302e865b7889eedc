"""P3: a whole extraction from a far bucket, against the bound of what it has to do at least, measured in the same run.

The bound is the larger of fetching alone with the same streams, and the CPU seconds of all other stages over the cores.
The CPU seconds are those of a plain loop over some of the volumes: no threads, no queues, nothing else.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from bench_input import phantom_file
from comparison import Goal, Row, not_measured
from settings import Settings
from throttled_proxy import throttled_proxy

from embeddings_store.command_line import parse_words
from embeddings_store.machine import usable_cores
from embeddings_store.ranks import Rank
from extract.device.select import open_device
from extract.engines.encoding import EncodedVolume, encode_batches, make_batches
from extract.load import DecodedVolume, VolumeLoader, new_loader
from extract.options import ExtractOptions
from extract.pipeline import extract
from extract.selection import Selection, select_volumes
from extract.stages import StageClock
from extract.targets import Job, list_jobs, open_encoders, open_target

sys.path.append(str(Path(__file__).parent.parent))
from rclone_server import rclone_s3

LATENCY_S, BYTES_PER_S = 0.02, 50e6
LINE = f"{LATENCY_S * 1e3:.0f} ms latency, {BYTES_PER_S / 1e6:.0f} MB/s a stream"
KEY = "retinal_oct/structural_oct/heidelberg_spectralis/{0}/{0}_spectralis_mac_20x20_hs_octa_oct_l_1.2.{0}.dcm"
SAMPLE = 4  # of so many volumes one goes through the plain loop
QUICK_SIZE = "16,64,64"
PROC = Path("/proc/self/task")
DECODER, SERVER = b"extract.dicom.decoder_process", b"rclone"

Look = tuple[float, dict[str, float]]
"""CPU seconds so far: of this process, and of each decoder."""


@dataclass(frozen=True)
class Setting:
    """One place for the bottleneck. shrink: of rows and columns of a scan with 512 frames."""

    name: str
    syntax: str
    shrink: int
    volumes: int
    streams: int
    image_size: str
    goal: float


SETTINGS = (
    Setting("fetch-bound", "explicit", 2, 32, 2, "32,96,96", 0.95),
    # This depth touches every frame: what is fetched and not decoded costs the same cores, and no bound counts it.
    Setting("decode-bound", "j2k", 2, 24, 8, "256,32,32", 0.9),
    Setting("encode-bound", "explicit", 8, 144, 8, "64,256,256", 0.9),
)
ENCODERS_IN_ONE_PASS = 3
MOST_EXTRA = 1.15


def measure(settings: Settings) -> list[Row]:
    if not PROC.exists():
        return [not_measured("the CPU seconds of decoders need /proc", id="P3", work="extraction", peer="", unit="s")]
    rows = []
    for setting in SETTINGS:
        with _far_bucket(settings, setting) as endpoint:
            rows += [_against_its_bound(settings, setting, endpoint)]
            if setting.name == "fetch-bound":
                rows += [_several_encoders(settings, setting, endpoint)]
    return rows


def _against_its_bound(settings: Settings, setting: Setting, endpoint: str) -> Row:
    rounds = 1 if settings.quick else 2
    walls, fetches, cpus = [], [], []
    for number in range(rounds):
        fetches += [_fetch_alone(_options(settings, setting, endpoint, f"unused-{number}"))]
        cpus += [_cpu_seconds(_options(settings, setting, endpoint, f"loop-{number}"))]
        walls += [_wall_seconds(_options(settings, setting, endpoint, f"store-{number}"))]
    cores = usable_cores()
    fetch, moved = (median(column) for column in zip(*fetches, strict=True))
    cpu = median(cpus)
    return Row(
        id="P3",
        work=f"extraction, {setting.name}: {_size(settings, setting)}",
        peer="its bound: the larger of fetching alone and CPU seconds of the rest / cores",
        unit="s",
        ours=median(walls),
        peer_value=max(fetch, cpu / cores),
        goal=Goal(ratio=setting.goal),
        rounds=rounds,
        notes=f"fetching alone {fetch:.1f} s with {setting.streams} streams ({LINE}); "
        f"{cpu:.1f} CPU s over {cores} cores, {cpu / cores:.1f} s; not in the bound, on the same cores: "
        f"{moved:.1f} CPU s of fetching (server, slow line and client)",
    )


def _several_encoders(settings: Settings, setting: Setting, endpoint: str) -> Row:
    """Compare one pass of three encoders with one of one encoder, where fetching decides."""
    rounds = 1 if settings.quick else 2
    three, one = [], []
    for number in range(rounds):
        stores = [f"several-{number}-{encoder}" for encoder in range(ENCODERS_IN_ONE_PASS)]
        three += [_wall_seconds(_options(settings, setting, endpoint, *stores))]
        one += [_wall_seconds(_options(settings, setting, endpoint, f"one-{number}"))]
    return Row(
        id="P3",
        work=f"extraction with {ENCODERS_IN_ONE_PASS} encoders in one pass: {_size(settings, setting)}",
        peer="with one encoder",
        unit="s",
        ours=median(three),
        peer_value=median(one),
        goal=Goal(ratio=1 / MOST_EXTRA),
        rounds=rounds,
        notes=f"each volume is fetched and decoded once; {LINE}",
    )


def _size(settings: Settings, setting: Setting) -> str:
    kind = {"explicit": "native", "j2k": "J2K"}[setting.syntax]
    rows, columns = 496 // setting.shrink, 512 // setting.shrink
    count = _count(settings, setting)
    size = QUICK_SIZE if settings.quick else setting.image_size
    return f"{count} volumes of 512 x {rows} x {columns} {kind}, input {size}"


def _count(settings: Settings, setting: Setting) -> int:
    return SAMPLE if settings.quick else setting.volumes


def _options(settings: Settings, setting: Setting, endpoint: str, *stores: str) -> ExtractOptions:
    return parse_words(
        ExtractOptions,
        bucket="eye",
        endpoint_url=endpoint,
        store=[str(settings.folder / setting.name / store) for store in stores],
        encoder=[f"random:tiny,seed={seed}" for seed in range(len(stores))],
        image_size=QUICK_SIZE if settings.quick else setting.image_size,
        streams=setting.streams,
        device="cpu",
        partial_reads="off",
        refresh=True,
    )


def _wall_seconds(options: ExtractOptions) -> float:
    summary: dict[str, Any] = extract(options)
    for account in summary.get("stores", [summary]):
        assert account["committed"] == summary["selected"] > 0, f"expected a row for every volume, got {summary}"
    return float(summary["seconds"]["wall"])


def _fetch_alone(options: ExtractOptions) -> tuple[float, float]:
    """Fetch every object with as many streams as the run has, and drop it; give wall seconds and CPU seconds.

    The latter are of the client, of the slow line, which is in this process, and of the server.
    """
    selection = select_volumes(options, now_ns=0)
    start, busy = perf_counter(), process_time() + sum(_seconds_of(SERVER).values())
    with ThreadPoolExecutor(options.streams) as pool:
        for size in pool.map(lambda ref: selection.source.fetch(ref).size, selection.refs):
            assert size > 0
    return perf_counter() - start, process_time() + sum(_seconds_of(SERVER).values()) - busy


def _cpu_seconds(options: ExtractOptions) -> float:
    """Take some volumes through every other stage, one after the other, and scale to all of them."""
    selection = select_volumes(options, now_ns=0)
    looks = list(_plain_loop(options, selection))
    # The first volume starts the decoder, and whatever else is started once.
    (own_before, decoders_before), (own_after, decoders_after) = looks[0], looks[-1]
    decoding = sum(seconds - decoders_before.get(pid, 0.0) for pid, seconds in decoders_after.items())
    return (own_after - own_before + decoding) / (len(looks) - 1) * len(selection.refs)


def _plain_loop(options: ExtractOptions, selection: Selection) -> Iterator[Look]:
    """Fetch first, so that the loop is of what comes after; give the CPU seconds so far after each volume."""
    backend, one = open_device(options.device, options.precision), Rank(0, 1)
    opened = open_encoders(options, backend)
    targets = [open_target(each, selection.refs, options, backend, one) for each in opened]
    loader = new_loader(selection.source, opened[0].recipe, StageClock())
    jobs = list_jobs(targets, selection.refs, one)
    jobs = jobs[: max(2, len(jobs) // SAMPLE)]
    fetched = {job.ref.key: selection.source.fetch(job.ref) for job in jobs}
    for job in jobs:
        batches = make_batches([_decode(loader, job, fetched.pop(job.ref.key))], targets, lambda _: None)
        for row in encode_batches(batches, targets, StageClock(), behind=0):
            assert isinstance(row, EncodedVolume)
            volume = row.volume
            targets[row.target].writer.write_row(
                volume.line.row, row.pooled, row.tokens, volume.facts, volume.source_md5, volume.source_size
            )
        yield process_time(), _seconds_of(DECODER)


def _decode(loader: VolumeLoader, job: Job, fetched: Any) -> tuple[Job, DecodedVolume]:
    return job, loader.decode(job.ref, fetched, (loader.recipe,))


def _seconds_of(command: bytes) -> dict[str, float]:
    """Give the CPU seconds of each living child of this process whose command line has this in it."""
    found = {}
    for children in PROC.glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread or a child that has just ended
            for child in children.read_text().split():
                if command in Path(f"/proc/{child}/cmdline").read_bytes():
                    words = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                    found[child] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return found


@contextmanager
def _far_bucket(settings: Settings, setting: Setting) -> Iterator[str]:
    """Serve copies of one scan from a real S3 server behind a slow line; give the endpoint."""
    folder = settings.folder / f"buckets-{setting.name}"
    data = phantom_file(setting.syntax, setting.shrink * (4 if settings.quick else 1))
    first = folder / "eye" / KEY.format(1001)
    for number in range(_count(settings, setting)):
        path = folder / "eye" / KEY.format(1001 + number)
        path.parent.mkdir(parents=True)
        if path == first:
            path.write_bytes(data)
        else:
            path.hardlink_to(first)
    with rclone_s3(folder) as (endpoint, access_key, secret_key):
        os.environ.update(AWS_ACCESS_KEY_ID=access_key, AWS_SECRET_ACCESS_KEY=secret_key)
        with throttled_proxy(endpoint, latency_s=LATENCY_S, bytes_per_s=BYTES_PER_S) as (far, _):
            yield far
