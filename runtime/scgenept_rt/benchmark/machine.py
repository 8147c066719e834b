"""The machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from scgenept_rt.benchmark.memory import total_bytes
from scgenept_rt.installing import installed_versions
from scgenept_rt.providers import ProviderChoice, cpu_threads

_PACKAGES = (
    "scgenept-rt",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "numpy",
)


def describe_machine(choice: ProviderChoice, *, threads: int | None, driver: str | None) -> dict[str, Any]:
    """Return the CPU, the GPU in use and the versions, fit for JSON; no names of hosts or users.

    `threads` is the option of this name, `driver` the version of the GPU's driver if it is known.
    """
    described: dict[str, Any] = {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "threads": threads or cpu_threads(),
        "memory_bytes": total_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }
    if choice.device is not None:
        described["gpu"] = dict(choice.device)
        described["driver"] = driver
        described["driver_cuda"] = choice.status.details["driver_cuda"]
    return described


def cpu_model() -> str:
    """Return the CPU's name as the system gives it."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1).strip() if match else platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Return the version of Python and of every installed package that takes part."""
    return {"python": platform.python_version(), **installed_versions(*_PACKAGES)}
