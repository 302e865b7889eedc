"""What the process may use, from affinity and the limits of control groups of either version."""

import os
from pathlib import Path

import pytest

from embeddings_store import machine
from embeddings_store.machine import usable_cores, usable_memory_bytes

V1 = "4:cpu,cpuacct:/job/7\n3:memory:/job/7\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "cores", "memory"),
    [
        (None, {}, 16, None),
        (None, {"cpu.max": "200000 100000", "memory.max": "4000000000"}, 2, 4_000_000_000),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2, None),
        ("0::/\n", {"cpu.max": "10000 100000"}, 1, None),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, 16, None),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000", "a/memory.max": "5000"}, 3, 5000),
        ("0::/of/the/host\n", {"cpu.max": "400000 100000"}, 4, None),  # as a container without a view of its own
        (V1, {"cpu/job/7/cpu.cfs_quota_us": "250000", "cpu/job/7/cpu.cfs_period_us": "100000"}, 3, None),
        (V1, {"cpu/job/7/cpu.cfs_quota_us": "-1", "cpu/job/7/cpu.cfs_period_us": "100000"}, 16, None),
        (V1, {"memory/job/7/memory.limit_in_bytes": "7000", "memory/memory.limit_in_bytes": str(2**62)}, 16, 7000),
        ("0::/\n", {"cpu.max": "nonsense", "memory.max": ""}, 16, None),
        ("0::/\n", {"cpu.max": "100000 0"}, 16, None),
        ("0::../../escape\nrubbish\n", {}, 16, None),
    ],
)
def test_limits_of_control_groups_are_kept(
    own: str | None, files: dict[str, str], cores: int, memory: int | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = usable_memory_bytes()
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    if own is not None:
        (tmp_path / "self").write_text(own)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert usable_cores() == cores
    assert usable_memory_bytes() == memory or (memory is None and usable_memory_bytes() >= whole)


def test_affinity_is_kept_and_a_system_without_it_counts_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUPS", Path("/nowhere"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cores() == 5
