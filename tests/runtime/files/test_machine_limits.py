from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scgenept_rt.files.machine_limits import cpu_threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads files of Linux")
V1 = {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}


def cgroup(root: Path, membership: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": membership, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}),
        ("0::/host/path\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}),
        ("3:cpu,cpuacct:/job\n", {f"sys/fs/cgroup/cpu,cpuacct/job/{k}": v for k, v in V1.items()}),
        ("3:cpu,cpuacct:/host/path\n", {f"sys/fs/cgroup/cpu/{k}": v for k, v in V1.items()}),
    ],
    ids=["v2 parent", "v2 container", "v1", "v1 container"],
)
def test_cgroup_quota_of_one_cpu(tmp_path: Path, membership: str, files: dict[str, str]) -> None:
    assert cpu_threads(cgroup(tmp_path, membership, files)) == 1


@pytest.mark.parametrize("quota", ["max 100000\n", "nonsense", "100000000 100000\n", "-1 100000"])
def test_without_a_quota_the_affinity_counts(tmp_path: Path, quota: str) -> None:
    root = cgroup(tmp_path, "0::/a\n", {"sys/fs/cgroup/a/cpu.max": quota})
    assert cpu_threads(root) == len(os.sched_getaffinity(0))
    assert cpu_threads(tmp_path / "nothing here") == len(os.sched_getaffinity(0))


def test_affinity_limits_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert cpu_threads(tmp_path) == 2
