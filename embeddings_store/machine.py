"""What of this machine the process may use: cores and memory, within affinity and the limits of its control groups."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return how many cores this process may keep busy; part of one counts as one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quotas = [one.split() for one in _limits("cpu.max")]
    quotas += [
        [quota, period] for quota, period in zip(
            _limits("cpu.cfs_quota_us", "cpu"), _limits("cpu.cfs_period_us", "cpu"), strict=False
        )
    ]  # fmt: skip
    known = [tuple(map(int, one)) for one in quotas if len(one) == 2 and all(map(str.isdecimal, one))]
    shares = [ceil(quota / period) for quota, period in known if period]
    return max(1, min([cores, *shares]))


def usable_memory_bytes() -> int:
    """Return the machine's memory, or what the process group is allowed of it; what caches hold counts as free."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [*_limits("memory.max"), *_limits("memory.limit_in_bytes", "memory")]
    return min([whole, *(int(one) for one in limits if one.isdecimal())])


def _limits(name: str, controller: str = "") -> Iterator[str]:
    """Read a limit of this process's control group and of those around it; controller: of version 1, a tree of each."""
    for own in _own_groups(controller):
        for group in (own, *own.parents):
            try:
                yield (CGROUPS / controller / group.relative_to("/") / name).read_text().strip()
            except OSError:  # none here, as in the outermost group
                continue


def _own_groups(controller: str) -> list[Path]:
    """Return the groups that the kernel names, "0::/a/b" or "4:cpu,cpuacct:/a/b"; the outermost where it names none."""
    try:
        lines = [line.split(":", 2) for line in OWN_GROUPS.read_text().splitlines() if line.count(":") >= 2]
    except OSError:
        lines = []
    found = [Path(path) for _, names, path in lines if controller in names.split(",") and path.startswith("/")]
    return found or [Path("/")]
