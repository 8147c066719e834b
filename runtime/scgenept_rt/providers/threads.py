"""How many threads a computation on the CPU may use here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath


def cpu_threads(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may really use, at least 1.

    The host's core count is wrong in a container or a batch job: a CPU affinity mask or a cgroup quota allows less,
    and more threads than that wait for each other. A fractional quota is rounded down.

    Parameters
    ----------
    root
        Where `proc/self/cgroup` and `sys/fs/cgroup` are read.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quotas = [int(quota) for quota in _cgroup_quotas(root)]
    return max(1, min([allowed, *quotas]))


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """Yield every CPU quota, in CPUs, of the process's control groups and the groups that hold them."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, separator, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not separator:
            continue
        if not controllers:
            yield from _quotas_upwards(mount, group, _quota_v2)
        elif "cpu" in controllers.split(","):
            for directory in dict.fromkeys((controllers, "cpu")):  # named after all its controllers, or a link to it
                yield from _quotas_upwards(mount / directory, group, _quota_v1)


def _quotas_upwards(mount: Path, group: str, read: Callable[[Path], float | None]) -> Iterator[float]:
    # In a container the group's path may be the host's, which is not below the mount: its parents' end, the mount
    # itself, then is the container's own group.
    path = PurePosixPath(group.lstrip("/"))
    for below in (path, *path.parents):
        quota = read(mount / below)
        if quota is not None:
            yield quota


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
