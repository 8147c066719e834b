"""The most memory that this process used, and how much there is."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

_STATUS, _CLEAR_REFS, _MEMINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
_RESET_PEAK = "5"


def reset_host_peak() -> bool:
    """Reset the peak; return False if the system cannot, so that it stays that of the whole process."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def host_peak_bytes() -> int | None:
    """Return the largest resident size of this process, since it started or since `reset_host_peak`."""
    try:
        return _kibibytes(_STATUS, "VmHWM")
    except OSError:
        pass
    # In kibibytes, but in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available_bytes() -> int | None:
    """Return how much memory is available without swapping; None if the system does not say."""
    try:
        return _kibibytes(_MEMINFO, "MemAvailable")
    except OSError:
        return None


def total_bytes() -> int | None:
    """Return how much memory the machine has; None if the system does not say."""
    try:
        return _kibibytes(_MEMINFO, "MemTotal")
    except OSError:
        return None


def _kibibytes(file: Path, name: str) -> int | None:
    match = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None
