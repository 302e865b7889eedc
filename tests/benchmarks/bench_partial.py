"""Partial reads: header and touched frames of native volumes, against the whole object, over a line with latency."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from comparison import Goal, Row, time_row
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from settings import Settings
from side_by_side import Rounds, in_turn
from throttled_proxy import throttled_proxy

from embeddings_store.schema import Eye, ParticipantId, VolumeRef, volume_id
from extract.bucket.s3 import S3Source
from extract.bucket.source import Fetched, PartlyFetched
from extract.dicom.reader import read_dicom
from extract.partial.reader import VolumeReader
from extract.preprocess import frame_chooser, preprocess_and_measure
from extract.preset import PRESETS

sys.path.append(str(Path(__file__).parent.parent))
from rclone_server import rclone_s3

LATENCY_S, BYTES_PER_S = 0.02, 50e6
IMAGE_SIZE = (64, 384, 384)
VOLUMES_IN_FLIGHT = 2
STREAMS = 8
"""As in a run, the memory allows fewer volumes in flight than there are streams; ranges use those that are left."""

SCANS = {
    (512, 496, 512): (Goal(ratio=2.5), Goal(ratio=1 / 0.3)),
    (256, 992, 512): (Goal(ratio=1.6), Goal(ratio=1 / 0.55)),
}
"""Frames, rows and columns of the two largest kinds of native scans: goals for volumes a second, and for bytes."""

QUICK_SCANS = {(512, 64, 512): (None, None)}
PEER = "whole objects, the same streams and volumes in flight"

Read = Callable[[], list[Fetched | PartlyFetched]]


def measure(settings: Settings) -> list[Row]:
    rows: list[Row] = []
    for scan, goals in (QUICK_SCANS if settings.quick else SCANS).items():
        folder = settings.folder / f"buckets-{scan[0]}"
        with _far_bucket(folder, scan, count=2 * VOLUMES_IN_FLIGHT) as endpoint:
            rows += _rows(settings, endpoint, scan, goals)
        shutil.rmtree(folder)
    return rows


def _rows(
    settings: Settings, endpoint: str, scan: tuple[int, int, int], goals: tuple[Goal | None, Goal | None]
) -> list[Row]:
    rounds = 1 if settings.quick else 3
    timed, bytes_mb, requests = _compare(endpoint, STREAMS, rounds)
    crowded, _, _ = _compare(endpoint, VOLUMES_IN_FLIGHT, 1)
    size = "{} x {} x {} native".format(*scan)
    line = f"{LATENCY_S * 1e3:.0f} ms latency, {BYTES_PER_S / 1e6:.0f} MB/s a stream"
    said = f"{VOLUMES_IN_FLIGHT} volumes in flight, {line}"
    row = partial(time_row, id="P15", peer=PEER)
    return [
        row(timed, work=f"partial reads: fetch {size}, {STREAMS} streams", goal=goals[0], notes=[said, requests]),
        Row(
            id="P15", work=f"partial reads: bytes fetched, {size}", peer="whole objects", unit="MB",
            ours=bytes_mb[0], peer_value=bytes_mb[1], goal=goals[1], rounds=timed.count, notes=requests,
        ),
        row(
            crowded,
            work=f"partial reads: fetch {size}, {VOLUMES_IN_FLIGHT} streams",
            notes=[said, "every stream is busy either way: the case in which auto may decide against it"],
        ),
    ]  # fmt: skip


def _compare(endpoint: str, streams: int, rounds: int) -> tuple[Rounds, tuple[float, float], str]:
    """Read all volumes in parts and whole, in turn; give also MB by either way, and the requests in words."""
    sources = [S3Source("eye", endpoint_url=endpoint, streams=streams) for _ in range(2)]
    reads = [_reader(source, mode) for source, mode in zip(sources, ("on", "off"), strict=True)]
    timed = in_turn(*reads, rounds=rounds, agree=_same_input)
    calls = timed.count + 1  # the one to warm up
    mine, whole = (source.counts.bytes / 1e6 / calls for source in sources)
    asked = sources[0].counts.get_requests // calls
    return timed, (mine, whole), f"{asked} requests instead of {sources[1].counts.get_requests // calls}"


def _reader(source: S3Source, mode: str) -> Read:
    reader = VolumeReader(source, "on" if mode == "on" else "off", has_room=lambda: True)
    refs = [
        VolumeRef(one.key, one.size, one.etag, volume_id(one.key), ParticipantId("1001"), Eye.LEFT, "any", "any")
        for one in source.list_objects()
    ]
    frames = frame_chooser(PRESETS["pretrain"], IMAGE_SIZE[0])

    def read() -> list[Fetched | PartlyFetched]:
        with ThreadPoolExecutor(VOLUMES_IN_FLIGHT) as pool:
            return list(pool.map(lambda ref: reader.fetch(ref, frames), refs))

    return read


def _same_input(mine: list[Fetched | PartlyFetched], whole: list[Fetched | PartlyFetched]) -> str:
    frames = frame_chooser(PRESETS["pretrain"], IMAGE_SIZE[0])
    assert all(isinstance(one, PartlyFetched) for one in mine)
    inputs = [
        preprocess_and_measure(read_dicom(one.data, frames=frames), PRESETS["pretrain"], IMAGE_SIZE)
        for one in (mine[0], whole[0])
    ]
    assert inputs[0].image.tobytes() == inputs[1].image.tobytes()
    assert inputs[0].intensity == inputs[1].intensity
    return "encoder inputs equal bit by bit"


@contextmanager
def _far_bucket(folder: Path, scan: tuple[int, int, int], count: int) -> Iterator[str]:
    """Serve ``count`` equal scans of noise from a real S3 server behind a slow line; give the endpoint."""
    (folder / "eye").mkdir(parents=True)
    data = _native_file(scan)
    for number in range(count):
        (folder / f"eye/{number}.dcm").write_bytes(data)
    with rclone_s3(folder) as (endpoint, access_key, secret_key):
        os.environ.update(AWS_ACCESS_KEY_ID=access_key, AWS_SECRET_ACCESS_KEY=secret_key)
        with throttled_proxy(endpoint, latency_s=LATENCY_S, bytes_per_s=BYTES_PER_S) as (far, _):
            yield far


def _native_file(scan: tuple[int, int, int]) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.5.4")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("2.25.1")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = scan
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = np.random.default_rng(0).integers(0, 256, scan, dtype=np.uint8).tobytes()
    dataset["PixelData"].VR = "OB"
    stream = BytesIO()
    dataset.save_as(stream, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return stream.getvalue()
