from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scgenept_rt.files.machine_limits import cpu_threads
from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


def cgroup(root: Path, membership: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": membership, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


ONE_CPU_V1 = {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}


@linux
@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "100000 100000\n"}),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}),
        ("0::/host/path\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}),
        ("3:cpu,cpuacct:/job\n", {f"sys/fs/cgroup/cpu,cpuacct/job/{k}": v for k, v in ONE_CPU_V1.items()}),
        ("3:cpu,cpuacct:/host/path\n", {f"sys/fs/cgroup/cpu/{k}": v for k, v in ONE_CPU_V1.items()}),
    ],
    ids=["v2", "v2 parent", "v2 container", "v1", "v1 container"],
)
def test_cgroup_quota_of_one_cpu(tmp_path: Path, membership: str, files: dict[str, str]) -> None:
    assert cpu_threads(cgroup(tmp_path, membership, files)) == 1


@linux
@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sys/fs/cgroup/a/cpu.max": "max 100000\n"},
        {"sys/fs/cgroup/a/cpu.max": "nonsense"},
        {"sys/fs/cgroup/a/cpu.max": "100000000 100000\n"},
        {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_without_a_quota_the_affinity_counts(tmp_path: Path, files: dict[str, str]) -> None:
    root = cgroup(tmp_path, "0::/a\n3:cpu:/a\n", files)
    assert cpu_threads(root) == len(os.sched_getaffinity(0))
    assert cpu_threads(tmp_path / "nothing here") == len(os.sched_getaffinity(0))


@linux
def test_affinity_limits_the_threads(machine: Machine) -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from scgenept_rt.files.machine_limits import cpu_threads; print(cpu_threads())"
    )
    assert machine.run(code).stdout == "1\n"
