"""P17: large objects over a slow line that all streams share, with the default streams and with a single one."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from unittest.mock import patch

from comparison import Goal, Row
from settings import Settings
from throttled_proxy import throttled_proxy

from extract.bucket.s3 import S3Source

sys.path.append(str(Path(__file__).parent.parent))
from rclone_server import rclone_s3

OBJECTS, OBJECT_BYTES = 36, 8_400_000
MBITS_PER_S = (1, 10, 100)
STREAMS = 32
BYTES_PER_MBIT = 125_000
LONGEST_S = 300  # a round, where sizes are cut down
MOST = 1.1  # of the time, and of the bytes, that one stream takes
PEER = "one stream"


@dataclass(frozen=True, slots=True)
class Passage:
    """Seconds, and bytes over the line, that all objects took."""

    seconds: float
    line_bytes: int
    requests: int


def measure(settings: Settings) -> list[Row]:
    """Fetch all objects over each line, both ways."""
    return [row for mbits in MBITS_PER_S for row in _rows(settings, mbits)]


def _rows(settings: Settings, mbits: int) -> list[Row]:
    longest = 2 if settings.quick else 10**6 if settings.full else LONGEST_S
    size = int(min(OBJECT_BYTES, longest * mbits * BYTES_PER_MBIT / OBJECTS))
    bucket = Path(settings.scratch) / f"buckets-{mbits}"
    wanted = _write(bucket / "eye", size)
    streams = STREAMS
    ours, single = (_fetch_all(bucket, wanted, mbits, count) for count in (streams, 1))
    cut = "" if size == OBJECT_BYTES else f"objects of {size / 1e6:.2f} MB instead of {OBJECT_BYTES / 1e6:.1f}"
    work = f"slow line: {OBJECTS} objects at {mbits} Mbit/s shared"
    asked = f"every md5 is right; {ours.requests} requests instead of {single.requests}"
    notes = "; ".join(part for part in (asked, cut) if part)
    megabytes = ours.line_bytes / 1e6, single.line_bytes / 1e6
    goal = Goal(ratio=1 / MOST)
    return [
        Row(id="P17", work=work, peer=PEER, unit="s", ours=ours.seconds, peer_value=single.seconds, goal=goal, rounds=1,
            notes=notes),
        Row(id="P17", work=f"{work}: bytes over the line", peer=PEER, unit="MB", ours=megabytes[0],
            peer_value=megabytes[1], goal=goal, rounds=1, notes=notes),
    ]  # fmt: skip


def _write(folder: Path, size: int) -> list[str]:
    folder.mkdir(parents=True)
    keys = [f"{number:02d}.dcm" for number in range(OBJECTS)]
    for number, key in enumerate(keys):
        (folder / key).write_bytes(bytes([number]) * size)
    return keys


def _fetch_all(bucket: Path, keys: Sequence[str], mbits: int, streams: int) -> Passage:
    """Fetch every object; each is checked against its md5 by the source."""
    speed = mbits * BYTES_PER_MBIT
    with (
        rclone_s3(bucket) as (server, access_key, secret_key),
        throttled_proxy(server, shared_bytes_per_s=speed) as (endpoint, traffic),
        patch.dict(os.environ, {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}),
    ):
        source = S3Source("eye", endpoint_url=endpoint, streams=streams)
        wanted = list(source.list_objects())
        assert [info.key for info in wanted] == list(keys)
        before, start = traffic.bytes, monotonic()
        with ThreadPoolExecutor(streams) as pool:
            sizes = list(pool.map(lambda info: len(source.fetch(info).data), wanted))
        assert sizes == [info.size for info in wanted]
        return Passage(monotonic() - start, traffic.bytes - before, source.counts.get_requests)
