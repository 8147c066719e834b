"""What each provider can do on this machine, and the one next step where it cannot."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal, get_args

from scgenept_rt.errors import ProviderUnavailableError, UnknownProviderError
from scgenept_rt.providers.devices import CudaDevice, CudaDevices, driver_too_old, find_devices
from scgenept_rt.providers.installation import Installation, find_installation, find_package
from scgenept_rt.providers.libraries import LoadFailure, cuda_major_of, load_failures, load_tensorrt_wheel, remedy_for
from scgenept_rt.providers.plugin import (
    PLUGIN_WHEEL,
    plugin_is_installed,
    plugin_provider_name,
    register_tensorrt_rtx,
)
from scgenept_rt.providers.threads import cpu_threads

ProviderName = Literal["cpu", "cuda", "tensorrt", "tensorrt-rtx", "torch"]
PROVIDER_NAMES: Final[tuple[ProviderName, ...]] = get_args(ProviderName)

# The name under which a package of ours declares itself as a backend; the runtime itself never imports PyTorch.
BACKEND_ENTRY_POINTS = "scgenept_rt.backends"

ORT_NAMES: Final[Mapping[ProviderName, str]] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

_CUDNN = "cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9"
_FIRST_CAPABILITY_OF_CUDA_13 = (7, 5)
_NEWEST_CUDA = 13  # what the wheels of today are built for, if a build does not say


@dataclass(frozen=True)
class ProviderStatus:
    """Whether a provider works here.

    Attributes
    ----------
    name
        One of `PROVIDER_NAMES`.
    usable
        Whether a session on it can be expected to run.
    reason
        One line: what it would run on, or what is wrong.
    remedy
        One next step, empty if nothing is wrong.
    details
        Facts behind the reason, fit for JSON: versions, devices, libraries that do not load.
    """

    name: ProviderName
    usable: bool
    reason: str
    remedy: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def diagnose() -> list[ProviderStatus]:
    """Return the status of every provider, in the order of `PROVIDER_NAMES`.

    Loads CUDA libraries into this process if an ONNX Runtime with CUDA is installed.
    """
    return [diagnose_provider(name) for name in PROVIDER_NAMES]


def diagnose_provider(name: str) -> ProviderStatus:
    """Return the status of one provider.

    Raises
    ------
    UnknownProviderError
        If there is no such provider.
    """
    if name == "torch":
        return _diagnose_torch()
    installation = find_installation()
    if name == "cpu":
        return _diagnose_cpu(installation)
    if name == "cuda":
        return _diagnose_cuda_or_tensorrt("cuda", installation)
    if name == "tensorrt":
        return _diagnose_cuda_or_tensorrt("tensorrt", installation)
    if name == "tensorrt-rtx":
        return _diagnose_tensorrt_rtx(installation)
    raise UnknownProviderError(name, PROVIDER_NAMES)


def _diagnose_cpu(installation: Installation) -> ProviderStatus:
    details: dict[str, Any] = {"wheels": dict(installation.wheels), "threads": cpu_threads()}
    if installation.module is None:
        return ProviderStatus("cpu", False, installation.problem, _reinstall(installation, "cpu"), details)
    if ORT_NAMES["cpu"] not in installation.available_providers():
        reason = f"{installation.label} lists no CPU provider"
        return ProviderStatus("cpu", False, reason, _reinstall(installation, "cpu"), details)
    threads = cpu_threads()
    reason = f"{installation.label}, {threads} thread{'' if threads == 1 else 's'}"
    if installation.is_mixed:
        # It does run, but on whichever files were written last.
        reason = f"{reason}; {_mixed(installation)}"
        return ProviderStatus("cpu", True, reason, _reinstall(installation, "cpu"), details)
    return ProviderStatus("cpu", True, reason, "", details)


def _diagnose_cuda_or_tensorrt(name: Literal["cuda", "tensorrt"], installation: Installation) -> ProviderStatus:
    devices = find_devices()
    failures: Sequence[LoadFailure] = ()
    problem, remedy = _wheel_problem(name, installation)
    library = _provider_library(name, installation)
    cuda_major = installation.cuda_major or (cuda_major_of(library) if library else None)
    if not problem:
        failures = _library_failures(name, installation)
        if failures:
            problem = f"{installation.label}: {_failed(failures)}"
            wheel = next(iter(installation.wheels), "onnxruntime-gpu")
            remedy = remedy_for(failures, wheel, cuda_major or _NEWEST_CUDA)
        elif not devices.problem and ORT_NAMES[name] not in installation.available_providers():
            problem = f"{installation.label} has the provider's library but does not offer it"
            remedy = "pip install --force-reinstall --no-deps onnxruntime-gpu"
    details = {
        "wheels": dict(installation.wheels),
        "cuda_major": cuda_major,
        "failed_libraries": [dataclasses.asdict(failure) for failure in failures],
        **_device_details(devices, [device for device in devices.devices if _cuda_supports(device, cuda_major)]),
    }
    if not problem and not devices.problem:
        problem, remedy = _device_problem(devices, cuda_major)
    elif devices.problem:
        problem, remedy = _with_device_problem(problem, remedy, devices)
    if problem:
        return ProviderStatus(name, False, problem, remedy, details)
    cuda = f" (CUDA {cuda_major})" if cuda_major else ""
    return ProviderStatus(name, True, f"{installation.label}{cuda}, {_listed_devices(devices)}", "", details)


def _diagnose_tensorrt_rtx(installation: Installation) -> ProviderStatus:
    devices = find_devices()
    problem = remedy = ""
    supported = [device for device in devices.devices if _tensorrt_rtx_supports(device)]
    details = {
        "wheels": dict(installation.wheels),
        "plugin": _version_of(PLUGIN_WHEEL),
        **_device_details(devices, supported),
    }
    if installation.module is None:
        problem, remedy = installation.problem, _reinstall(installation, "tensorrt-rtx")
    elif installation.is_mixed:
        problem, remedy = _mixed(installation), _reinstall(installation, "tensorrt-rtx")
    elif not plugin_is_installed():
        # Not the extra: it would put the CPU wheel beside a GPU wheel that may be there.
        problem, remedy = f"the plugin {PLUGIN_WHEEL} is not installed", f"pip install {PLUGIN_WHEEL}"
    if devices.problem:
        problem, remedy = _with_device_problem(problem, remedy, devices)
    elif not supported:
        unsupported = f"TensorRT-RTX does not support {_listed_devices(devices)}: it needs 7.5, 8.6, 8.9 or 12.x"
        problem, remedy = "; ".join(filter(None, (problem, unsupported))), "use --provider cuda"
    if not problem:
        try:
            register_tensorrt_rtx()
        except ProviderUnavailableError as error:
            problem, remedy = error.reason, error.remedy
        else:
            details["execution_provider"] = plugin_provider_name()
    if problem:
        return ProviderStatus("tensorrt-rtx", False, problem, remedy, details)
    reason = f"{installation.label}, plugin {details['plugin']}, {_listed_devices(devices)}"
    return ProviderStatus("tensorrt-rtx", True, reason, "", details)


def _diagnose_torch() -> ProviderStatus:
    version = _version_of("torch") if find_package("torch") is not None else None
    backends = [entry.value for entry in metadata.entry_points(group=BACKEND_ENTRY_POINTS, name="torch")]
    details = {"torch": version, "backends": backends}
    install = "pip install 'scgenept-rt[export]'"
    if version is None:
        return ProviderStatus(
            "torch", False, "PyTorch is not installed (the extra `export` brings it)", install, details
        )
    if not backends:
        reason = f"PyTorch {version} is here, but no installed package offers the backend (the extra `export` does)"
        return ProviderStatus("torch", False, reason, install, details)
    return ProviderStatus("torch", True, f"PyTorch {version}, the eager reference (slow)", "", details)


def _wheel_problem(name: Literal["cuda", "tensorrt"], installation: Installation) -> tuple[str, str]:
    if installation.module is None:
        return installation.problem, _reinstall(installation, "gpu")
    if installation.is_mixed:
        return _mixed(installation), _reinstall(installation, "gpu")
    library = _provider_library(name, installation)
    if ORT_NAMES[name] not in installation.available_providers() and not (library and library.is_file()):
        title = {"cuda": "CUDA", "tensorrt": "TensorRT"}[name]
        kind = "the CPU wheel " if set(installation.wheels) == {"onnxruntime"} else ""
        wheels = " ".join(installation.wheels) or "onnxruntime"
        return (
            f"{kind}{installation.label} has no {title} provider",
            f"pip uninstall -y {wheels} && pip install 'scgenept-rt[gpu]'",
        )
    return "", ""


def _library_failures(name: Literal["cuda", "tensorrt"], installation: Installation) -> Sequence[LoadFailure]:
    library = _provider_library(name, installation)
    if library is None:
        return ()
    if not library.is_file():
        return (LoadFailure(library.name, f"{library}: no such file"),)
    installation.preload_libraries()
    also: tuple[str, ...] = (_CUDNN,)  # opened when it runs; without it attention silently falls to slower kernels
    if name == "tensorrt":
        load_tensorrt_wheel()
        also = ("nvinfer_10.dll", "nvonnxparser_10.dll") if sys.platform == "win32" else ()
    return load_failures(library, cuda_major=installation.cuda_major, also=also)


def _provider_library(name: Literal["cuda", "tensorrt"], installation: Installation) -> Path | None:
    prefix, suffix = ("", ".dll") if sys.platform == "win32" else ("lib", ".so")
    return installation.capi and installation.capi / f"{prefix}onnxruntime_providers_{name}{suffix}"


def _device_problem(devices: CudaDevices, cuda_major: int | None) -> tuple[str, str]:
    old = driver_too_old(devices, cuda_major)
    if old:
        return old
    if not any(_cuda_supports(device, cuda_major) for device in devices.devices):
        problem = f"CUDA {cuda_major} does not support {_listed_devices(devices)}: it needs 7.5 or newer"
        return problem, "install a build of onnxruntime-gpu for CUDA 12"
    return "", ""


def _cuda_supports(device: CudaDevice, cuda_major: int | None) -> bool:
    return (cuda_major or 0) < 13 or device.compute_capability >= _FIRST_CAPABILITY_OF_CUDA_13


def _with_device_problem(problem: str, remedy: str, devices: CudaDevices) -> tuple[str, str]:
    """Join what is wrong with the software and with the machine, so that nobody installs CUDA where no GPU is."""
    if not problem:
        return devices.problem, devices.remedy
    prefix = "on a machine with an NVIDIA GPU: " if devices.no_gpu else ""
    return f"{problem}; {devices.problem}", prefix + remedy


def _tensorrt_rtx_supports(device: CudaDevice) -> bool:
    return device.compute_capability in ((7, 5), (8, 6), (8, 9)) or device.compute_capability[0] == 12


def _mixed(installation: Installation) -> str:
    return f"{installation.label} are installed together and overwrite each other's files"


def _reinstall(installation: Installation, extra: str) -> str:
    install = f"pip install 'scgenept-rt[{extra}]'"
    if not installation.wheels:
        return install
    return f"pip uninstall -y {' '.join(installation.wheels)} && {install}"


def _failed(failures: Sequence[LoadFailure]) -> str:
    names = ", ".join(failure.library for failure in failures)
    words = failures[0].message if len(failures) == 1 else ""
    verb = "does" if len(failures) == 1 else "do"
    # "cannot open shared object file" says nothing that "does not load" does not; anything else is worth reading.
    told = "" if not words or "No such file" in words or "Could not find" in words else f" ({words})"
    return f"{names} {verb} not load{told}"


def _listed_devices(devices: CudaDevices) -> str:
    if len(devices.devices) == 1:
        return str(devices.devices[0])
    return ", ".join(f"device {device.index}: {device}" for device in devices.devices)


def _device_details(devices: CudaDevices, usable: Sequence[CudaDevice]) -> dict[str, Any]:
    return {
        "driver_cuda": ".".join(map(str, devices.driver_cuda)) if devices.driver_cuda else None,
        "devices": [
            {**dataclasses.asdict(device), "compute_capability": ".".join(map(str, device.compute_capability))}
            for device in devices.devices
        ],
        "usable_devices": [device.index for device in usable],
    }


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
