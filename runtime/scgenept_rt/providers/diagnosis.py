"""What each provider can do on this machine, and one next step where it cannot."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.installing import install_command, installed_versions, pip_command
from scgenept_rt.providers.devices import BUILD_FOR_CUDA_12, CudaDevice, CudaDevices, driver_too_old, find_devices
from scgenept_rt.providers.elf import runs_on
from scgenept_rt.providers.installation import Fault, Installation, find_installation
from scgenept_rt.providers.libraries import load_failures, remedy_for
from scgenept_rt.providers.onnx_runtime import PLUGIN_MODULE, PLUGIN_WHEEL, register_tensorrt_rtx
from scgenept_rt.providers.threads import cpu_threads
from scgenept_rt.providers.traits import PROVIDER_NAMES, TRAITS, ProviderName

_CUDNN = "libcudnn.so.9"
_FIRST_CAPABILITY_OF_CUDA_13 = (7, 5)
_BUILD_FOR_NEW_GPUS = "onnxruntime-gpu[cuda,cudnn]==1.28.*"  # of compute capability 10.x, left out of later builds


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
    details = {"wheels": dict(installation.wheels), "threads": cpu_threads()}
    fault = installation.fault("cpu")
    if fault and installation.module is not None:
        # Mixed wheels do run, but on whichever files were written last.
        return ProviderStatus("cpu", True, f"{installation.label}; {fault.reason}", fault.remedy, details)
    return _status("cpu", fault, installation.label, details)


def _diagnose_cuda_or_tensorrt(name: ProviderName, installation: Installation) -> ProviderStatus:
    devices, supported, failures = find_devices(), list[CudaDevice](), dict[str, str]()
    fault = installation.fault("gpu") or _without_provider(name, installation)
    if not fault:
        installation.preload_libraries()
        library = Path(installation.module.__file__).resolve().parent / f"capi/libonnxruntime_providers_{name}.so"
        # cuDNN is opened at run time; without it attention silently falls back to slower kernels.
        failures = load_failures(library, *([_CUDNN] if TRAITS[name].is_cuda else []))
        supported = [device for device in devices.devices if runs_on(library, device.compute_capability)]
        if failures:
            verb = "does not load" if len(failures) == 1 else "do not load"
            reason = f"{installation.label}: {', '.join(failures)} {verb} ({next(iter(failures.values()))})"
            fault = Fault(reason, remedy_for(failures))
    cuda_major = installation.cuda_major
    fault = _with_devices(fault, devices) or driver_too_old(devices, cuda_major)
    if not fault and not supported:
        fault = _unsupported(devices, installation)
    details = {
        "wheels": dict(installation.wheels),
        "cuda_major": cuda_major,
        "failed_libraries": failures,
        **_device_details(devices, supported),
    }
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
    missing = Fault("PyTorch is not installed (the extra `export` brings it)", f"Run `{install_command('export')}`")
    fault = None if version else missing
    return _status("torch", fault, f"PyTorch {version}, the eager reference (slow)", {"torch": version})


def _status(name: ProviderName, fault: Fault | None, sound: str, details: Mapping[str, Any]) -> ProviderStatus:
    if fault:
        return ProviderStatus(name, False, fault.reason, fault.remedy, details)
    return ProviderStatus(name, True, sound, "", details)


def _without_provider(name: ProviderName, installation: Installation) -> Fault | None:
    if TRAITS[name].ort_name in installation.module.get_available_providers():
        return None
    kind = "the CPU wheel " if set(installation.wheels) == {"onnxruntime"} else ""
    wheels = " ".join(installation.wheels) or "onnxruntime"
    return Fault(
        f"{kind}{installation.label} has no provider {name}",
        f"Run `{pip_command(f'uninstall -y {wheels}')} && {install_command('gpu')}`",
    )


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
    remedy = f"On a machine with an NVIDIA GPU, {fault.remedy[0].lower()}{fault.remedy[1:]}"
    return Fault(f"{fault.reason}; {devices.fault.reason}", remedy)


def _device_details(devices: CudaDevices, usable: list[CudaDevice]) -> dict[str, Any]:
    return {
        "driver_cuda": ".".join(map(str, devices.driver_cuda)) if devices.driver_cuda else None,
        "devices": [
            {**dataclasses.asdict(device), "compute_capability": ".".join(map(str, device.compute_capability))}
            for device in devices.devices
        ],
        "usable_devices": [device.index for device in usable],
    }
