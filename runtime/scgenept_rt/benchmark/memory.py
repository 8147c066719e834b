"""How much memory this process and its GPU have in use at most, and how much there is."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_STATUS, _CLEAR_REFS, _MEMINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
_RESET_PEAK = "5"


def reset_host_peak() -> bool:
    """Start counting the peak anew; returns False where the system cannot, and it stays that of the whole process."""
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
    try:
        import resource
    except ImportError:  # Windows
        return None
    # In kibibytes, but in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available_bytes() -> int | None:
    """Return how much memory can still be taken without swapping, None where the system does not say."""
    try:
        return _kibibytes(_MEMINFO, "MemAvailable")
    except OSError:
        return None


def total_bytes() -> int | None:
    """Return how much memory the machine has, None where the system does not say."""
    try:
        return _kibibytes(_MEMINFO, "MemTotal")
    except OSError:
        return None


def _kibibytes(file: Path, name: str) -> int | None:
    match = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


class _NvmlMemory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class DeviceMeter:
    """Asks the NVIDIA driver for its version and for the memory in use on one GPU, by all its processes together.

    NVML numbers GPUs in another way than CUDA, so the GPU is found by its address on the bus. Where NVML does not
    answer, every question gives None.
    """

    def __init__(self, device_id: int | None) -> None:
        """Find a GPU by CUDA's number of it; None for no GPU."""
        self.driver: str | None = None
        self._nvml: ctypes.CDLL | None = None
        self._handle = ctypes.c_void_p()
        if device_id is None:
            return
        windows = sys.platform == "win32"
        try:
            cuda = ctypes.CDLL("nvcuda.dll" if windows else "libcuda.so.1")
            nvml = ctypes.CDLL("nvml.dll" if windows else "libnvidia-ml.so.1")
        except OSError:
            return
        address, text = ctypes.create_string_buffer(64), ctypes.create_string_buffer(96)
        if cuda.cuInit(0) or cuda.cuDeviceGetPCIBusId(address, len(address), device_id) or nvml.nvmlInit_v2():
            return
        if nvml.nvmlSystemGetDriverVersion(text, len(text)) == 0:
            self.driver = text.value.decode(errors="replace")
        if nvml.nvmlDeviceGetHandleByPciBusId_v2(address, ctypes.byref(self._handle)) == 0:
            self._nvml = nvml

    def used_bytes(self) -> int | None:
        """Return the memory in use on the GPU."""
        memory = _NvmlMemory()
        if self._nvml is None or self._nvml.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory)):
            return None
        return int(memory.used)
