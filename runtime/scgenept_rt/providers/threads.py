"""How many threads a computation on the CPU may use here."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    return max(1, min([allowed, *_cgroup_quotas(root)]))


def _cgroup_quotas(root: Path) -> Iterator[int]:
    """Yield every CPU quota, in whole CPUs, of the process's control groups and the groups that hold them."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            mounts, files = [mount], ["cpu.max"]
        elif "cpu" in controllers.split(","):  # version 1: a directory named after all its controllers, or a link to it
            mounts, files = [mount / controllers, mount / "cpu"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        # In a container the group's path may be the host's, which is not below the mount: its parents' end, the mount
        # itself, then is the container's own group.
        path = PurePosixPath(group.lstrip("/"))
        for directory in (above / below for above in mounts for below in (path, *path.parents)):
            try:
                quota, period = " ".join((directory / file).read_text() for file in files).split()
                if int(quota) > 0:
                    yield int(quota) // int(period)
            except (OSError, ValueError):  # not there, or without a quota: "max"
                continue
