"""NVIDIA GPUs, asked of the driver itself so that neither CUDA nor ONNX Runtime need be there."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

_CUDA_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute

_NO_DEVICE = 100
# CUresult of cuInit -> what it means, what to do.
_DRIVER_ERRORS = {
    34: (
        "libcuda is the CUDA toolkit's stub, not a driver",
        "remove the toolkit's lib64/stubs directory from LD_LIBRARY_PATH",
    ),
    802: (
        "the NVIDIA driver is not ready (a system with NVSwitch needs its fabric manager)",
        "start nvidia-fabricmanager",
    ),
    803: ("the NVIDIA driver's library and kernel module differ in version", "restart the machine after the update"),
    804: (
        "the CUDA compatibility library does not support this GPU",
        "remove the cuda-compat directory from LD_LIBRARY_PATH, or update the NVIDIA driver",
    ),
}
# CUDA version -> the first Linux driver that runs it.
_FIRST_DRIVER = {12: "525.60", 13: "580.65"}


def open_driver() -> ctypes.CDLL:
    """Load the NVIDIA driver's library; raises OSError if there is none."""
    return ctypes.CDLL(_CUDA_LIBRARY)


@dataclass(frozen=True)
class CudaDevice:
    """One GPU, numbered as CUDA numbers the visible ones."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"{self.name} (compute capability {major}.{minor})"


@dataclass(frozen=True)
class CudaDevices:
    """The visible GPUs; `problem` and `remedy` are set if there are none.

    Attributes
    ----------
    driver_cuda
        The newest CUDA version that the driver runs, as (major, minor).
    no_gpu
        True if this machine seems to have no NVIDIA GPU at all, so that installing software would not help.
    """

    devices: tuple[CudaDevice, ...] = ()
    driver_cuda: tuple[int, int] | None = None
    problem: str = ""
    remedy: str = ""
    no_gpu: bool = False


class _NvmlMemory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class DeviceMeter:
    """Asks the NVIDIA driver for its version and for the memory of one GPU, in use by all its processes together.

    NVML numbers GPUs in another way than CUDA, and knows nothing of CUDA_VISIBLE_DEVICES, so the GPU is found by its
    address on the bus. Where the driver does not answer, every question gives None.

    Attributes
    ----------
    driver
        Version of the driver.
    """

    def __init__(self, device_id: int | None) -> None:
        """Find a GPU by CUDA's number of it among the visible ones; None for no GPU."""
        self.driver: str | None = None
        self._nvml: ctypes.CDLL | None = None
        self._handle = ctypes.c_void_p()
        self._total: int | None = None
        if device_id is None:
            return
        try:
            self._find(device_id)
        except (OSError, AttributeError):  # no driver, or one that is too old to have these functions
            self._nvml = None

    def used_bytes(self) -> int | None:
        """Return the memory in use on the GPU."""
        memory = self._memory()
        return None if memory is None else int(memory.used)

    def free_bytes(self) -> int | None:
        """Return the memory that is free on the GPU."""
        memory = self._memory()
        if memory is None:
            return None
        # A slice of a GPU has the address of the whole one: no more is free than CUDA says the slice has.
        return int(memory.free) if self._total is None else min(int(memory.free), self._total)

    def _find(self, device_id: int) -> None:
        windows = sys.platform == "win32"
        cuda = open_driver()
        nvml = ctypes.CDLL("nvml.dll" if windows else "libnvidia-ml.so.1")
        device, memory = ctypes.c_int(), ctypes.c_size_t()
        address, text = ctypes.create_string_buffer(64), ctypes.create_string_buffer(96)
        if (
            cuda.cuInit(0)
            or cuda.cuDeviceGet(ctypes.byref(device), device_id)
            or cuda.cuDeviceGetPCIBusId(address, len(address), device)
            or nvml.nvmlInit_v2()
        ):
            return
        if nvml.nvmlSystemGetDriverVersion(text, len(text)) == 0:
            self.driver = text.value.decode(errors="replace")
        if cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device) == 0:
            self._total = memory.value
        if nvml.nvmlDeviceGetHandleByPciBusId_v2(address, ctypes.byref(self._handle)) == 0:
            self._nvml = nvml

    def _memory(self) -> _NvmlMemory | None:
        memory = _NvmlMemory()
        if self._nvml is None or self._nvml.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory)):
            return None
        return memory


def find_devices() -> CudaDevices:
    """Ask the NVIDIA driver for its GPUs."""
    if sys.platform == "darwin":
        return CudaDevices(problem="macOS has no CUDA", remedy="use --provider cpu", no_gpu=True)
    hidden = _hidden_by_environment()
    try:
        driver = open_driver()
    except OSError:
        problems = [*([hidden] if hidden else []), f"no NVIDIA driver is installed ({_CUDA_LIBRARY} does not load)"]
        remedy = "install the NVIDIA driver, or in a container pass the GPUs in (docker run --gpus all)"
        return CudaDevices(problem="; ".join(problems), remedy=remedy, no_gpu=True)
    version = ctypes.c_int()
    driver_cuda = None
    if driver.cuDriverGetVersion(ctypes.byref(version)) == 0:
        driver_cuda = (version.value // 1000, version.value % 1000 // 10)
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status == 0 and count.value > 0 and not hidden:
        return CudaDevices(tuple(_device(driver, index) for index in range(count.value)), driver_cuda)
    if hidden:
        return CudaDevices((), driver_cuda, hidden, "unset CUDA_VISIBLE_DEVICES, or set it to a GPU's number")
    if status in (0, _NO_DEVICE):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            problem = f"no GPU is visible: CUDA_VISIBLE_DEVICES={visible} names none that exists"
            return CudaDevices((), driver_cuda, problem, "unset CUDA_VISIBLE_DEVICES, or set it to a GPU's number")
        return CudaDevices(
            (), driver_cuda, "the NVIDIA driver finds no GPU", "check that nvidia-smi lists a GPU", no_gpu=True
        )
    problem, remedy = _DRIVER_ERRORS.get(
        status, (f"the NVIDIA driver does not start (CUDA error {status})", "check that nvidia-smi works")
    )
    return CudaDevices((), driver_cuda, problem, remedy)


def driver_too_old(devices: CudaDevices, cuda_major: int | None) -> tuple[str, str] | None:
    """Return problem and remedy if the driver cannot run a CUDA version."""
    if devices.driver_cuda is None or cuda_major is None or devices.driver_cuda[0] >= cuda_major:
        return None
    found = ".".join(map(str, devices.driver_cuda))
    first = f" to {_FIRST_DRIVER[cuda_major]} or newer" if cuda_major in _FIRST_DRIVER else ""
    problem = f"the NVIDIA driver is too old: it runs CUDA up to {found}, this onnxruntime needs CUDA {cuda_major}"
    return problem, f"update the NVIDIA driver{first}"


def _hidden_by_environment() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return ""
    first = visible.split(",")[0].strip()  # CUDA reads up to the first number that is no device
    if not visible.strip():
        return "CUDA_VISIBLE_DEVICES is set but empty, which hides every GPU"
    return f"CUDA_VISIBLE_DEVICES={visible} hides every GPU" if first.startswith("-") or first == "NoDevFiles" else ""


def _device(driver: ctypes.CDLL, index: int) -> CudaDevice:
    handle, value, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(handle), index)
    driver.cuDeviceGetName(name, len(name), handle)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    capability = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        capability.append(value.value)
    return CudaDevice(index, name.value.decode(errors="replace"), (capability[0], capability[1]), memory.value)
