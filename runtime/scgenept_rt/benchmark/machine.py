"""The machine that a measurement was made on, and the memory that this process uses."""

from __future__ import annotations

import os
import platform
import re
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

from scgenept_rt.files.machine_limits import cpu_threads
from scgenept_rt.installing import RUNTIME_PACKAGES, installed_versions
from scgenept_rt.providers import ProviderChoice
from scgenept_rt.providers.devices import gpu_memory
from scgenept_rt.providers.onnx_runtime import PLUGIN_WHEEL

_PACKAGES = ("scgenept-rt", *RUNTIME_PACKAGES, PLUGIN_WHEEL, "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "numpy")


def describe_machine(choice: ProviderChoice) -> dict[str, Any]:
    """Return the CPU, the GPU in use and the versions, fit for JSON; no names of hosts or users."""
    described: dict[str, Any] = {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "threads": choice.engine["threads"] or cpu_threads(),
        "memory_bytes": _bytes("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **installed_versions(*_PACKAGES)},
    }
    if choice.device is not None:
        described["gpu"] = dict(choice.device)
        memory = gpu_memory(choice.device_id)
        described["driver"] = memory.driver if memory else None
        described["driver_cuda"] = choice.status.details["driver_cuda"]
    return described


def cpu_model() -> str:
    """Return the CPU's name as the system gives it."""
    return _entry("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.processor() or "unknown"


def reset_host_peak() -> None:
    """Reset the peak; where the system cannot, it stays that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def host_peak_bytes() -> int:
    """Return the largest resident size of this process, since it started or since `reset_host_peak`."""
    # Without /proc on macOS, whose figure is in bytes.
    return process_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def process_bytes(name: str) -> int | None:
    """Return VmRSS or VmHWM (the peak) of this process; None without /proc."""
    return _bytes("/proc/self/status", name)


def _bytes(file: str, name: str) -> int | None:
    found = _entry(file, rf"{name}:\s+(\d+) kB")
    return int(found) * 1024 if found else None


def _entry(file: str, pattern: str) -> str | None:
    """Return the group of the first line that a pattern matches; None without the file."""
    try:
        found = re.search(f"^{pattern}$", Path(file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[1].strip() if found else None
