"""How many threads a computation on the CPU may use here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from scgenept_rt.files.machine_limits import control_groups


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
    for directory, is_v2 in control_groups("cpu", root):
        files = ["cpu.max"] if is_v2 else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        with suppress(OSError, ValueError):  # not there, or without a quota: "max"
            quota, period = " ".join((directory / file).read_text() for file in files).split()
            if int(quota) > 0:
                yield int(quota) // int(period)
