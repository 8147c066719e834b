"""NVIDIA GPUs, as the driver itself lists them: neither CUDA nor ONNX Runtime need be installed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from scgenept_rt.installing import pip_command

_CUDA_LIBRARY, _NVML_LIBRARY = "libcuda.so.1", "libnvidia-ml.so.1"
_COMPUTE_CAPABILITY = (75, 76)  # CUdevice_attribute: major and minor
_NO_DEVICE = 100
BUILD_FOR_CUDA_12 = "onnxruntime-gpu[cuda,cudnn]<1.27"
_FIRST_DRIVER = {12: "525.60", 13: "580.65"}  # by CUDA version, on Linux


class Fault(NamedTuple):
    """What keeps a provider from being used, in one line, and one next step."""

    reason: str
    remedy: str


# By the CUresult of cuInit.
_DRIVER_FAULTS = {
    802: Fault(
        "the NVIDIA driver is not ready (a system with NVSwitch needs its fabric manager)",
        "Start nvidia-fabricmanager",
    ),
    803: Fault(
        "the library and the kernel module of the NVIDIA driver differ in version",
        "Restart the machine after the update",
    ),
    804: Fault(
        "the CUDA compatibility library does not support this GPU",
        "Remove the cuda-compat directory from LD_LIBRARY_PATH, or update the NVIDIA driver",
    ),
}


class Devices(NamedTuple):
    """The visible GPUs, or why there are none.

    `found` has name, compute_capability (such as "9.0"), memory_bytes and index of each GPU, in CUDA's order;
    `driver_cuda` is the newest CUDA version that the driver runs, such as "13.0".
    """

    found: Sequence[dict[str, Any]] = ()
    driver_cuda: str | None = None
    fault: Fault | None = None

    def __str__(self) -> str:
        named = [f"{device['name']} (compute capability {device['compute_capability']})" for device in self.found]
        return named[0] if len(named) == 1 else ", ".join(f"device {index}: {text}" for index, text in enumerate(named))


def find_devices() -> Devices:
    """Ask the NVIDIA driver for its GPUs."""
    try:
        driver = ctypes.CDLL(_CUDA_LIBRARY)
    except OSError:
        reason = f"no NVIDIA driver is installed ({_CUDA_LIBRARY} does not load)"
        remedy = "Install the NVIDIA driver, or in a container pass the GPUs in (`docker run --gpus all`)"
        return Devices(fault=Fault(reason, remedy))
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver_cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status == 0 and count.value > 0:
        return Devices([_device(driver, index) for index in range(count.value)], driver_cuda)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if status not in (0, _NO_DEVICE):
        unknown = Fault(f"the NVIDIA driver does not start (CUDA error {status})", "Check that nvidia-smi works")
        fault = _DRIVER_FAULTS.get(status, unknown)
    elif visible is None:
        fault = Fault("the NVIDIA driver finds no GPU", "Check that nvidia-smi lists a GPU")
    else:
        fault = Fault(
            f"no GPU is visible: CUDA_VISIBLE_DEVICES is {visible!r}, which hides every GPU or names none that exists",
            "Unset CUDA_VISIBLE_DEVICES, or set it to the number of a GPU",
        )
    return Devices((), driver_cuda, fault)


def _device(driver: ctypes.CDLL, index: int) -> dict[str, Any]:
    handle, value, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(handle), index)
    driver.cuDeviceGetName(name, len(name), handle)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        capability.append(str(value.value))
    return {
        "index": index,
        "name": name.value.decode(errors="replace"),
        "compute_capability": ".".join(capability),
        "memory_bytes": memory.value,
    }


def driver_too_old(driver_cuda: str | None, cuda_major: int | None) -> Fault | None:
    """Return what is wrong if the driver cannot run a CUDA version."""
    driver_major = int((driver_cuda or "0").split(".")[0])
    if driver_cuda is None or cuda_major is None or driver_major >= cuda_major:
        return None
    reason = f"the NVIDIA driver is too old: it runs CUDA up to {driver_cuda}, this onnxruntime needs CUDA {cuda_major}"
    first = f" to {_FIRST_DRIVER[cuda_major]} or newer" if cuda_major in _FIRST_DRIVER else ""
    remedy = f"Update the NVIDIA driver{first}"
    if driver_major == 12:  # on a cluster nobody but its administrators can update the driver
        install = pip_command(f"install '{BUILD_FOR_CUDA_12}'")
        remedy += f", or run `{install}`, the last builds for CUDA 12"
    return Fault(reason, remedy)


class _NvmlMemory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class GpuMemory(NamedTuple):
    """Bytes of a GPU that are free, and in use by all processes together; and the version of the driver."""

    free: int
    used: int
    driver: str


def gpu_memory(device_id: int | None) -> GpuMemory | None:
    """Return the memory of a GPU, by CUDA's number among the visible ones; None where the driver does not answer.

    NVML numbers GPUs differently from CUDA and ignores CUDA_VISIBLE_DEVICES, so the GPU is found by its bus address.
    """
    if device_id is None:
        return None
    device, total, handle, memory = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_void_p(), _NvmlMemory()
    address, version = ctypes.create_string_buffer(64), ctypes.create_string_buffer(96)
    try:
        cuda, nvml = ctypes.CDLL(_CUDA_LIBRARY), ctypes.CDLL(_NVML_LIBRARY)
        failed = (
            cuda.cuInit(0)
            or cuda.cuDeviceGet(ctypes.byref(device), device_id)
            or cuda.cuDeviceGetPCIBusId(address, len(address), device)
            or cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
            or nvml.nvmlInit_v2()
            or nvml.nvmlSystemGetDriverVersion(version, len(version))
            or nvml.nvmlDeviceGetHandleByPciBusId_v2(address, ctypes.byref(handle))
            or nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
        )
    except (OSError, AttributeError):  # no driver, or one too old to have these functions
        return None
    if failed:
        return None
    # A slice of a GPU has the address of the whole one: no more is free than CUDA says the slice has.
    return GpuMemory(min(memory.free, total.value), memory.used, version.value.decode(errors="replace"))
