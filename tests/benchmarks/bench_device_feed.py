"""P21: a device of known speed, fed by the engine of one machine: how much of its time it is busy, and at what cost.

The engine, its batches, the way to the device and back, the checks of the results and the thumbnails are the real ones.
Where the device's speed is the question, volumes come decoded, so that few cores can feed a fast device; what decoding
costs is a row of its own, in CPU seconds a volume, from which follow the cores that a device needs; so is the whole
way from the file of a volume to its row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from bench_input import NAMES, PROTOCOL, phantom_file
from comparison import Goal, Row
from settings import Settings
from simulated_device import SimulatedDevice

from embeddings_store.grid import Grid
from embeddings_store.index import IndexRow
from embeddings_store.machine import usable_cores
from embeddings_store.schema import Eye, Note, ParticipantId, RowFacts, VolumeFailure, VolumeRef, volume_id
from embeddings_store.space import EmbeddingSpace
from embeddings_store.writer import open_writer
from extract.bucket.folder import FolderSource
from extract.bucket.source import Fetched, TransferCounts
from extract.device.cpu import CpuBackend
from extract.device.host_ring import HostRing
from extract.dicom.reader import read_dicom
from extract.encode import BatchEncoder, build_space
from extract.encoder.encoder import Encoder
from extract.encoder.random_init import random_encoder
from extract.encoder_options import EncoderChoice
from extract.engines.local import run_local
from extract.engines.work import Pass
from extract.engines.workers import Workers
from extract.load import DecodedVolume, new_loader
from extract.preprocess import Room, frame_chooser, plain_room, preprocess_and_measure
from extract.preset import PRESETS, Recipe
from extract.progress import Progress
from extract.stages import StageClock
from extract.stop import StopRequest
from extract.targets import Job, OpenedEncoder, Target

if TYPE_CHECKING:
    from embeddings_store.writer import StoreWriter
    from extract.load import VolumeLoader

PRESET = PRESETS["pretrain"]
RATES, QUICK_RATES = (20.0, 50.0, 100.0), (50.0,)
SECONDS = 6
BATCH = 16
POOLS = ("mean", "max", "std")
FACTS = RowFacts(1, 1, 1, None, Eye.LEFT, Note.NONE)


@dataclass
class Rows:
    """A store in memory, of pooled vectors by row."""

    pooled: dict[int, np.ndarray] = field(default_factory=dict)

    def write_row(self, row: int, pooled: np.ndarray, *_: object) -> None:
        self.pooled[row] = pooled

    def write_error(self, row: int, failure: VolumeFailure) -> None:
        raise AssertionError(f"row {row}: {failure}")


@dataclass
class Volumes:
    """A loader whose volumes come from memory: ``data``, a DICOM file; without it they are there already, decoded.

    known: where in memory zeros stand for a volume.
    """

    recipe: Recipe
    room: Room
    data: bytes = b""
    known: set[int] = field(default_factory=set)

    def input_bytes(self, recipe: Recipe) -> int:
        return 4 * int(np.prod(recipe.image_size))

    def fetch(self, ref: VolumeRef, recipes: list[Recipe]) -> Fetched:
        return Fetched(self.data, 0, "", b"\0" * 16)

    def decode(self, ref: VolumeRef, fetched: Fetched, recipes: list[Recipe]) -> DecodedVolume:
        if self.data:
            image = make_input(fetched.data, self.recipe, self.room)
        else:
            image = self.room((1, *self.recipe.image_size))
            if image.ctypes.data not in self.known:
                self.known.add(image.ctypes.data)
                image.fill(0)  # what lay in that memory before may be no number
        return DecodedVolume({self.recipe: image}, {self.recipe: FACTS}, b"\0" * 16, 1)


def make_input(data: bytes, recipe: Recipe, room: Room) -> np.ndarray:
    volume = read_dicom(data, frames=frame_chooser(PRESET, recipe.image_size[0]))
    return preprocess_and_measure(volume, PRESET, recipe.image_size, room).image


def measure(settings: Settings) -> list[Row]:
    size = (16, 64, 64) if settings.quick else (64, 384, 384)
    _require_equal_rows()
    encoder = random_encoder("random:tiny" if settings.quick else "random:base", size)
    rows = [_busy_row(rate, encoder, settings) for rate in (QUICK_RATES if settings.quick else RATES)]
    shrink = {"explicit": 8 if settings.quick else 1, "j2k": 8 if settings.quick else 1 if settings.full else 2}
    rows += [_cost_row(syntax, shrink[syntax], size, settings) for syntax in shrink]
    return [*rows, _chain_row(encoder, settings)]


def prepare(device: SimulatedDevice | CpuBackend, encoder: Encoder) -> BatchEncoder:
    grid = encoder.architecture.grid
    return BatchEncoder(encoder, device, pools=POOLS, token_grid=grid, batch_size=BATCH)


def feed(
    device: SimulatedDevice | CpuBackend, encoder: Encoder, batches: BatchEncoder, count: int, data: bytes = b""
) -> Rows:
    """Do a pass over ``count`` volumes."""
    written, recipe = Rows(), Recipe(PRESET, encoder.architecture.image_size)
    loader = cast("VolumeLoader", Volumes(recipe, device.room, data))
    jobs = [Job(ref, {0: IndexRow(number, ref)}) for number, ref in enumerate(_refs(count, 0))]
    _do_pass(device, encoder, batches, cast("StoreWriter", written), loader, jobs)
    return written


def _do_pass(
    device: SimulatedDevice | CpuBackend,
    encoder: Encoder,
    batches: BatchEncoder,
    writer: "StoreWriter",
    loader: "VolumeLoader",
    jobs: Sequence[Job],
) -> None:
    recipe = Recipe(PRESET, encoder.architecture.image_size)
    choice = EncoderChoice(encoder="random:base")
    opened = OpenedEncoder("memory", encoder, batches, _space(device, encoder), choice, recipe)
    target: Any = Target(opened, writer, {})
    threads = Workers(fetch=4, decode=usable_cores(), encode=1, write=2, forward_threads=1, budget_bytes=4_000_000_000)
    progress = Progress(len(jobs))
    run_local(Pass(jobs, [target], loader, device, StageClock(), TransferCounts(), progress, StopRequest()), threads)


def _space(device: SimulatedDevice | CpuBackend, encoder: Encoder) -> EmbeddingSpace:
    return build_space(
        encoder, PRESET.to_dict(), layers=("last",), pools=POOLS, token_grid=encoder.architecture.grid,
        precision=device.precision,
    )  # fmt: skip


def _refs(count: int, size_bytes: int) -> list[VolumeRef]:
    names = [f"{number}.dcm" for number in range(count)]
    return [VolumeRef(one, size_bytes, "", volume_id(one), ParticipantId("1001"), Eye.LEFT, "d", "p") for one in names]


def _busy_row(rate: float, encoder: Encoder, settings: Settings) -> Row:
    device, count = SimulatedDevice(rate), BATCH * round(rate * (1 if settings.quick else SECONDS) / BATCH)
    batches = prepare(device, encoder)
    feed(device, encoder, batches, 3 * BATCH)  # from here on the ring is full
    device.start_again()
    cpu = process_time()
    written = feed(device, encoder, batches, count)
    cpu = process_time() - cpu
    size = encoder.architecture.image_size
    if len(written.pooled) != count:
        raise ValueError(f"expected {count} rows, got {len(written.pooled)}")
    return Row(
        id="P21",
        work=f"{count} volumes of {'x'.join(map(str, size))} through a simulated device of {rate:g} volumes/s",
        peer="the device alone",
        unit="s",
        ours=device.ended - device.begun,
        peer_value=count / rate,
        goal=Goal(ratio=0.95),
        rounds=1,
        notes=f"the ratio is the share of its time that it is busy; batches of {BATCH}, tokens and pools come back; "
        f"{1000 * cpu / count:.1f} CPU ms a volume without decoding, {1000 * device.launch_s / count:.1f} of them for "
        f"the calls of operators; {device.pieces} inputs in the ring",
    )


def _cost_row(syntax: str, shrink: int, size: Grid, settings: Settings) -> Row:
    data, recipe = phantom_file(syntax, shrink), Recipe(PRESET, size)
    ring, rounds = HostRing(lambda size: torch.zeros(size, dtype=torch.uint8)), 1 if settings.quick else 4
    make_input(data, recipe, ring.take)
    spent = process_time()
    for _ in range(rounds):
        make_input(data, recipe, ring.take)
    spent = (process_time() - spent) / rounds
    cores = ", ".join(f"{rate * spent:.0f}" for rate in RATES)
    return Row(
        id="P21",
        work=f"{NAMES[syntax]} bytes -> an input in the ring, {PROTOCOL.frames} frames of "
        f"{PROTOCOL.rows // shrink} x {PROTOCOL.columns // shrink}",
        peer="none",
        unit="CPU s",
        ours=spent,
        rounds=rounds,
        notes=f"cores that decode for a device of 20, 50 and 100 volumes/s: {cores}",
    )


def _chain_row(encoder: Encoder, settings: Settings) -> Row:
    """Take volumes of the encoder's own size from files to rows, past a device that takes no time."""
    size, count = encoder.architecture.image_size, BATCH if settings.quick else 2 * BATCH
    device, data = SimulatedDevice(1e9), phantom_file("explicit", 1, shape=size)
    batches = prepare(device, encoder)
    with TemporaryDirectory(dir=settings.folder) as scratch:
        bucket, refs = Path(scratch) / "bucket", _refs(count, len(data))
        bucket.mkdir()
        for ref in refs:
            (bucket / ref.key).write_bytes(data)
        recipe, writer = Recipe(PRESET, size), open_writer(f"{scratch}/store", _space(device, encoder), worker={})
        loader = new_loader(FolderSource(bucket), recipe, StageClock(), room=device.room)
        writer.add_volumes(refs)
        jobs = [Job(line.ref, {0: line}) for line in writer.missing_rows()]
        feed(device, encoder, batches, 3 * BATCH)  # from here on the ring is full
        spent = process_time()
        _do_pass(device, encoder, batches, writer, loader, jobs)
        spent = (process_time() - spent) / count
        if writer.missing_rows():
            raise ValueError(f"{len(writer.missing_rows())} of {count} rows were not written")
    cores = ", ".join(f"{rate * spent:.1f}" for rate in RATES)
    return Row(
        id="P21",
        work=f"native file of {'x'.join(map(str, size))} in a folder -> a row of pools and tokens",
        peer="none",
        unit="CPU s",
        ours=spent,
        rounds=1,
        notes=f"all that the host does for a volume; cores for a device of 20, 50 and 100 volumes/s: {cores}",
    )


class RingedCpu(CpuBackend):
    """The CPU, with inputs made as for a GPU."""

    def __init__(self) -> None:
        super().__init__("fp32")
        self._ring = HostRing(lambda size: torch.full((size,), 255, dtype=torch.uint8))  # not a number, until filled

    def room(self, shape: Sequence[int]) -> np.ndarray:
        return self._ring.take(shape)


def _require_equal_rows() -> None:
    """Compare rows of the engine, with inputs in a ring, with a forward of one input made in plain memory."""
    size, data = (16, 64, 64), phantom_file("explicit", 8)
    encoder, device = random_encoder("random:tiny", size), RingedCpu()
    rows = feed(device, encoder, prepare(device, encoder), 5, data).pooled
    alone = (
        prepare(CpuBackend("fp32"), encoder).encode(make_input(data, Recipe(PRESET, size), plain_room)[None]).pooled[0]
    )
    for row, pooled in rows.items():
        if not np.allclose(pooled, alone, atol=1e-5):
            raise ValueError(f"row {row} is another one than its volume alone gives")
    if len(rows) != 5:
        raise ValueError(f"expected 5 rows, got {len(rows)}")
