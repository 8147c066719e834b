"""The most memory that this process used, and how much there is."""

from __future__ import annotations

import re
import resource
from pathlib import Path

_RESET_PEAK = "5"


def reset_host_peak() -> bool:
    """Reset the peak; return False if the system cannot, so that it stays that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def host_peak_bytes() -> int | None:
    """Return the largest resident size of this process, since it started or since `reset_host_peak`."""
    # Without /proc on macOS, whose figure is in bytes.
    return process_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def process_bytes(name: str) -> int | None:
    """Return VmRSS or VmHWM (the peak) of this process; None without /proc."""
    return _read(Path("/proc/self/status"), name)


def total_bytes() -> int | None:
    """Return how much memory the machine has; None if the system does not say."""
    return _read(Path("/proc/meminfo"), "MemTotal")


def _read(file: Path, name: str) -> int | None:
    try:
        match = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match.group(1)) * 1024 if match else None
