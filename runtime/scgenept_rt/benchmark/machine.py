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
from scgenept_rt.providers.devices import gpu_memory

_PACKAGES = (
    "scgenept-rt",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "numpy",
)


def describe_machine(choice: ProviderChoice) -> dict[str, Any]:
    """Return the CPU, the GPU in use and the versions, fit for JSON; no names of hosts or users."""
    described: dict[str, Any] = {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "threads": choice.engine["threads"] or cpu_threads(),
        "memory_bytes": total_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }
    if choice.device is not None:
        described["gpu"] = dict(choice.device)
        memory = gpu_memory(choice.device_id)
        described["driver"] = memory.driver if memory else None
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
