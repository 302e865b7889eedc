"""P13: how an extraction grows with its volumes: 1x, 4x, 16x of them, in time, memory, requests and store.

Small phantom volumes from a real S3 server through ``extract-embeddings``, each run in a process of its own. No peer.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from comparison import Row
from settings import Settings

sys.path.append(str(Path(__file__).parent.parent))
from rclone_server import rclone_s3

SIZES = (100, 400, 1600)
SCRIPTS = Path(sys.executable).parent


def measure(settings: Settings) -> list[Row]:
    sizes = (4, 16) if settings.quick else SIZES
    bucket = settings.folder / "buckets" / "eye"
    most = sizes[-1]
    _run("oct-phantom", "--out", bucket, "--participants", max(2, most // 8), "--scale", "0.125", "--seed", 0)
    with rclone_s3(bucket.parent) as (endpoint, access_key, secret_key):
        keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
        found = [_extract(settings.folder / f"store-{size}", endpoint, size, keys) for size in sizes]
    rows = []
    for size, (summary, store_bytes) in zip(sizes, found, strict=True):
        work = f"extraction of {size:,} small phantom volumes, random:tiny with 4x3x3 tokens"
        notes = (
            f"{summary['volumes_per_second']:.1f} volumes/s; {summary['list_requests']} LIST, "
            f"{summary['get_requests']} GET; store {store_bytes / 1e6:.1f} MB; limited by {summary['limiting_stage']}"
        )
        wall, peak = summary["seconds"]["wall"], summary["peak_rss_mb"]
        rows += [Row(id="P13", work=work, peer="none", unit="s", ours=wall, rounds=1, notes=notes)]
        rows += [Row(id="P13", work=f"peak memory: {work}", peer="none", unit="MB", ours=peak, rounds=1)]
    return rows


def _extract(store: Path, endpoint: str, size: int, keys: dict[str, str]) -> tuple[dict[str, Any], int]:
    said = _run(
        "extract-embeddings", "--bucket", "eye", "--endpoint-url", endpoint, "--store", store, "--encoder",
        "random:tiny", "--tokens", "4x3x3", "--limit", size, "--refresh", "--json", environment=keys,
    )  # fmt: skip
    summary: dict[str, Any] = json.loads(said)
    assert summary["committed"] == size, f"expected {size} rows, got {summary['committed']}"
    return summary, sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def _run(script: str, *arguments: object, environment: dict[str, str] | None = None) -> str:
    command = [str(SCRIPTS / script), *map(str, arguments)]
    known = os.environ | (environment or {})
    return subprocess.run(command, env=known, check=True, stdout=subprocess.PIPE, text=True).stdout
