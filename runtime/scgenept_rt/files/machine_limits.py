"""Limits of memory and CPUs that a container or batch job sets, read from the files of Linux."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath


def memory_limit(root: Path = Path("/")) -> int:
    """Return how much memory, in bytes, this process can ever have: the machine's, or what its container allows."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for directory, is_v2 in control_groups("memory", root):
        with suppress(OSError, ValueError):  # not there, or without a limit: "max"
            limits.append(int((directory / ("memory.max" if is_v2 else "memory.limit_in_bytes")).read_text()))
    return min(limits)


def cpu_threads(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may really use, at least 1.

    The host's core count is wrong in a container or a batch job: a CPU affinity mask or a cgroup quota allows less,
    and more threads than that wait for each other. A fractional quota is rounded down.
    """
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)]
    for directory, is_v2 in control_groups("cpu", root):
        files = ["cpu.max"] if is_v2 else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        with suppress(OSError, ValueError):  # as above
            quota, period = " ".join((directory / file).read_text() for file in files).split()
            if int(quota) > 0:
                limits.append(int(quota) // int(period))
    return max(1, min(limits))


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[tuple[Path, bool]]:
    """Yield where the control groups of this process and their parents are, and whether they are of version 2."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            mounts = [mount]
        elif controller in controllers.split(","):  # version 1: named after all its controllers, or a link to that
            mounts = [mount / controllers, mount / controller]
        else:
            continue
        # In a container the group's path may be the host's, which is not below the mount: its parents' end, the mount
        # itself, then is the container's own group.
        path = PurePosixPath(group.lstrip("/"))
        for directory in (above / below for above in mounts for below in (path, *path.parents)):
            yield directory, not controllers
