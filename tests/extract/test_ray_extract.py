"""Extraction on a real Ray cluster of two nodes: the rows are those of one machine, and a node may be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cluster_contract import ClusterContract
from command_line import Command
from small_bucket import assert_same_rows, errors, fill_bucket, key_of, options
from test_concatenation import bucket_of_parts

from extract.pipeline import extract

pytest.importorskip("ray", reason="needs octprobe[ray]")
pytestmark = [
    pytest.mark.slow,
    # A node that was killed leaves the pipes to its processes to the garbage collector.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

VOLUMES = 60
SCRIPT = Path(sys.executable).parent / "extract-embeddings"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One head and one other node, with one CPU each, in processes of their own."""
    from extract.engines.ray import import_ray

    import_ray()
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = fill_bucket(tmp_path_factory.mktemp("files") / "bucket", VOLUMES)
    (root / key_of(3)).write_bytes(b"no DICOM")
    return root


def commits(store: Path) -> int:
    return sum(1 for _ in (store / "commit").rglob("c*")) if store.exists() else 0


def when(found: Callable[[], bool], act: Callable[[], object]) -> Thread:
    def wait() -> None:
        deadline = time.monotonic() + 60
        while not found() and time.monotonic() < deadline:
            time.sleep(0.02)
        act()

    waiter = Thread(target=wait, daemon=True)
    waiter.start()
    return waiter


class TestRayCluster(ClusterContract):
    @pytest.fixture
    def hiring(self, cluster: Any) -> Iterator[Any]:
        from extract.engines.ray import open_ray_cluster

        with open_ray_cluster(cluster.address, "auto") as joined:
            yield joined


def test_the_rows_are_those_of_one_machine_and_a_poisoned_volume_is_an_error_row(
    cluster: Any, bucket: Path, tmp_path: Path
) -> None:
    together, alone = (tmp_path / "a", tmp_path / "b"), (tmp_path / "local-a", tmp_path / "local-b")
    summary = extract(options(bucket, *together, engine="ray", ray_address=cluster.address))
    local = extract(options(bucket, *alone))
    assert summary.keys() == local.keys()
    assert summary["workers"]["encode"] == 2
    for mine, theirs, account in zip(together, alone, summary["stores"], strict=True):
        assert account["committed"] == VOLUMES - 1
        assert errors(mine) == {key_of(3): ("decode", "NotDicom")}
        assert_same_rows(mine, theirs)


def test_parts_are_joined_on_either_node(cluster: Any, tmp_path: Path) -> None:
    bucket = bucket_of_parts(tmp_path / "parts", 8)
    summary = extract(options(bucket, tmp_path / "store", engine="ray", ray_address=cluster.address))
    local = extract(options(bucket, tmp_path / "local"))
    told = [(one["committed"], one["parts"], one["errors"]) for one in (summary, local)]
    assert told == [(8, 16, {}), (8, 16, {})]
    assert summary["workers"]["encode"] == 2
    assert_same_rows(tmp_path / "store", tmp_path / "local")


def test_a_signal_ends_the_command_as_on_one_machine(cluster: Any, bucket: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    line = [SCRIPT, "--bucket", bucket, "--store", store, "--encoder", "random:tiny", "--json"]
    process = subprocess.Popen(
        [*line, "--engine", "ray", "--ray-address", cluster.address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    when(lambda: commits(store) > 2, lambda: process.send_signal(signal.SIGINT))
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    summary = json.loads(stdout)
    assert summary["stopped_by"] == "SIGINT"
    assert 2 < summary["committed"] == commits(store) < VOLUMES - 1
    assert "run the same command again" in stderr


def test_one_of_two_nodes_is_killed_and_all_rows_are_committed(
    cluster: Any, bucket: Path, tmp_path: Path, command: Command
) -> None:
    """The last test: the cluster has one node less when it is over."""
    store = tmp_path / "store"
    (victim,) = cluster.worker_nodes
    killer = when(lambda: commits(store) > 4, lambda: cluster.remove_node(victim, allow_graceful=False))
    done = command(
        "extract-embeddings", "--bucket", bucket, "--store", store, "--encoder", "random:tiny", "--tokens", "2x2x2",
        "--engine", "ray", "--ray-address", cluster.address, "--json",
    )  # fmt: skip
    killer.join()
    assert done.code == 3, done.stderr
    summary = done.json
    assert (summary["committed"], summary["errors"]) == (VOLUMES - 1, {"NotDicom": 1})
    assert "was lost; 0 volumes" not in done.stderr
    assert "was lost; " in done.stderr, "it was done before the node was gone: use more volumes"
    found = command("extract-embeddings", "verify", "--store", store, "--json").json
    assert (found["checked"], found["bad"], found["orphans"]) == (VOLUMES - 1, 0, 0)
    extract(options(bucket, tmp_path / "local", encoder="random:tiny", image_size=None))
    assert_same_rows(store, tmp_path / "local")
