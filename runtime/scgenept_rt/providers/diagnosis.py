"""What each provider can do on this machine, and one next step where it cannot."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.installing import install_command, installed_versions, pip_command
from scgenept_rt.providers.devices import BUILD_FOR_CUDA_12, CudaDevice, CudaDevices, driver_too_old, find_devices
from scgenept_rt.providers.elf import runs_on
from scgenept_rt.providers.installation import Fault, Installation, find_installation
from scgenept_rt.providers.libraries import LoadFailure, load_failures, remedy_for
from scgenept_rt.providers.plugin import PLUGIN_MODULE, PLUGIN_WHEEL, register_tensorrt_rtx
from scgenept_rt.providers.threads import cpu_threads
from scgenept_rt.providers.traits import PROVIDER_NAMES, TRAITS, ProviderName

BACKEND_ENTRY_POINTS: Final = "scgenept_rt.backends"
"""Group in which the export package declares PyTorch as a backend; the runtime itself never imports it."""

_CUDNN = "libcudnn.so.9"
_FIRST_CAPABILITY_OF_CUDA_13 = (7, 5)
_BUILD_FOR_NEW_GPUS = "onnxruntime-gpu[cuda,cudnn]==1.28.*"  # of compute capability 10.x, left out of later builds
_NEWEST_CUDA = 13  # of today's wheels, for a build that does not say


@dataclass(frozen=True)
class ProviderStatus:
    """Whether a provider works here.

    Attributes
    ----------
    reason
        One line: what it would run on, or what is wrong.
    remedy
        One next step; empty if nothing is wrong.
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


def diagnose_provider(name: ProviderName) -> ProviderStatus:
    """Return the status of one provider."""
    match name:
        case "cpu":
            return _diagnose_cpu(find_installation())
        case "cuda" | "tensorrt":
            return _diagnose_cuda_or_tensorrt(name, find_installation())
        case "tensorrt-rtx":
            return _diagnose_tensorrt_rtx(find_installation())
        case "torch":
            return _diagnose_torch()


def _diagnose_cpu(installation: Installation) -> ProviderStatus:
    details: dict[str, Any] = {"wheels": dict(installation.wheels), "threads": cpu_threads()}
    fault = installation.fault("cpu")
    if installation.module is None:
        return _status("cpu", fault, "", details)
    # Mixed wheels do run, but on whichever files were written last.
    reason = installation.label + (f"; {fault.reason}" if fault else "")
    return ProviderStatus("cpu", True, reason, fault.remedy if fault else "", details)


def _diagnose_cuda_or_tensorrt(name: ProviderName, installation: Installation) -> ProviderStatus:
    devices = find_devices()
    library = installation.capi and installation.capi / f"libonnxruntime_providers_{name}.so"
    cuda_major = installation.cuda_major
    fault = installation.fault("gpu") or _without_provider(name, installation, library)
    failures: Sequence[LoadFailure] = ()
    if not fault and library:
        failures = _library_failures(name, installation, library)
        if failures:
            remedy = remedy_for(failures, cuda_major or _NEWEST_CUDA)
            fault = Fault(f"{installation.label}: {_failed(failures)}", remedy)
        elif not devices.fault and TRAITS[name].ort_name not in installation.available_providers():
            reason = f"{installation.label} has the library of the provider but does not offer it"
            fault = Fault(reason, f"Run `{pip_command('install --force-reinstall --no-deps onnxruntime-gpu')}`")
    supported = [device for device in devices.devices if library is None or runs_on(library, device.compute_capability)]
    details = {
        "wheels": dict(installation.wheels),
        "cuda_major": cuda_major,
        "failed_libraries": [dataclasses.asdict(failure) for failure in failures],
        **_device_details(devices, supported),
    }
    fault = _with_devices(fault, devices) or driver_too_old(devices, cuda_major)
    if not fault and not supported:
        fault = _unsupported(devices, installation)
    cuda = f" (CUDA {cuda_major})" if cuda_major else ""
    return _status(name, fault, f"{installation.label}{cuda}, {devices}", details)


def _diagnose_tensorrt_rtx(installation: Installation) -> ProviderStatus:
    devices = find_devices()
    supported = [device for device in devices.devices if _tensorrt_rtx_supports(device)]
    details = {
        "wheels": dict(installation.wheels),
        "plugin": installed_versions(PLUGIN_WHEEL).get(PLUGIN_WHEEL),
        **_device_details(devices, supported),
    }
    fault = installation.fault("tensorrt-rtx")
    if not fault and util.find_spec(PLUGIN_MODULE) is None:
        # Not the extra: it would put the CPU wheel beside a GPU wheel that may be there.
        fault = Fault(f"the plugin {PLUGIN_WHEEL} is not installed", f"Run `{pip_command(f'install {PLUGIN_WHEEL}')}`")
    fault = _with_devices(fault, devices)
    if not devices.fault and not supported:
        unsupported = f"TensorRT-RTX does not support {devices}: it needs 7.5, 8.6, 8.9 or 12.x"
        fault = Fault(f"{fault.reason}; {unsupported}" if fault else unsupported, "Use the provider cuda")
    if not fault:
        try:
            details["execution_provider"] = register_tensorrt_rtx()[0].ep_name
        except ProviderUnavailableError as error:
            fault = Fault(error.problem, error.remedy)
    return _status("tensorrt-rtx", fault, f"{installation.label}, plugin {details['plugin']}, {devices}", details)


def _diagnose_torch() -> ProviderStatus:
    version = installed_versions("torch").get("torch")
    backends = [entry.value for entry in metadata.entry_points(group=BACKEND_ENTRY_POINTS, name="torch")]
    fault = None
    install = f"Run `{install_command('export')}`"
    if version is None:
        fault = Fault("PyTorch is not installed (the extra `export` brings it)", install)
    elif not backends:
        fault = Fault(f"PyTorch {version} is installed, but no package offers the backend", install)
    details = {"torch": version, "backends": backends}
    return _status("torch", fault, f"PyTorch {version}, the eager reference (slow)", details)


def _status(name: ProviderName, fault: Fault | None, sound: str, details: Mapping[str, Any]) -> ProviderStatus:
    if fault:
        return ProviderStatus(name, False, fault.reason, fault.remedy, details)
    return ProviderStatus(name, True, sound, "", details)


def _without_provider(name: ProviderName, installation: Installation, library: Path | None) -> Fault | None:
    if TRAITS[name].ort_name in installation.available_providers() or (library and library.is_file()):
        return None
    kind = "the CPU wheel " if set(installation.wheels) == {"onnxruntime"} else ""
    wheels = " ".join(installation.wheels) or "onnxruntime"
    return Fault(
        f"{kind}{installation.label} has no provider {name}",
        f"Run `{pip_command(f'uninstall -y {wheels}')} && {install_command('gpu')}`",
    )


def _library_failures(name: ProviderName, installation: Installation, library: Path) -> Sequence[LoadFailure]:
    installation.preload_libraries()
    # cuDNN is opened at run time; without it attention silently falls back to slower kernels.
    return load_failures(library, also=(_CUDNN,) if name == "cuda" else ())


def _unsupported(devices: CudaDevices, installation: Installation) -> Fault:
    old = any(device.compute_capability < _FIRST_CAPABILITY_OF_CUDA_13 for device in devices.devices)
    build = BUILD_FOR_CUDA_12 if old else _BUILD_FOR_NEW_GPUS
    install = pip_command(f"install {shlex.quote(build)}")
    return Fault(f"{installation.label} has no kernels for {devices}", f"Run `{install}`")


def _tensorrt_rtx_supports(device: CudaDevice) -> bool:
    return device.compute_capability in ((7, 5), (8, 6), (8, 9)) or device.compute_capability[0] == 12


def _with_devices(fault: Fault | None, devices: CudaDevices) -> Fault | None:
    """Join what is wrong with the software and with the machine, so that nobody installs CUDA without a GPU."""
    if fault is None or devices.fault is None:
        return fault or devices.fault
    remedy = fault.remedy
    if devices.no_gpu:
        remedy = f"On a machine with an NVIDIA GPU, {remedy[0].lower()}{remedy[1:]}"
    return Fault(f"{fault.reason}; {devices.fault.reason}", remedy)


def _failed(failures: Sequence[LoadFailure]) -> str:
    if len(failures) > 1:
        return f"{', '.join(failure.library for failure in failures)} do not load"
    # "cannot open shared object file" adds nothing to "does not load"; anything else is worth reading.
    message = failures[0].message
    return f"{failures[0].library} does not load" + ("" if "No such file" in message else f" ({message})")


def _device_details(devices: CudaDevices, usable: Sequence[CudaDevice]) -> dict[str, Any]:
    return {
        "driver_cuda": ".".join(map(str, devices.driver_cuda)) if devices.driver_cuda else None,
        "devices": [
            {**dataclasses.asdict(device), "compute_capability": ".".join(map(str, device.compute_capability))}
            for device in devices.devices
        ],
        "usable_devices": [device.index for device in usable],
    }
