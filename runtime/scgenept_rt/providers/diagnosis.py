"""What each provider can do on this machine, and one next step where it cannot."""

from __future__ import annotations

import io
import shlex
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.files.machine_limits import cpu_threads
from scgenept_rt.installing import install_command, installed_versions, pip_command
from scgenept_rt.providers.devices import BUILD_FOR_CUDA_12, Devices, Fault, driver_too_old, find_devices
from scgenept_rt.providers.libraries import load_failures, remedy_for, runs_on
from scgenept_rt.providers.onnx_runtime import (
    PLUGIN_MODULE,
    PLUGIN_WHEEL,
    Installation,
    find_installation,
    register_tensorrt_rtx,
)
from scgenept_rt.providers.traits import PROVIDER_NAMES, TRAITS, ProviderName

_CUDNN = "libcudnn.so.9"
_FIRST_CAPABILITY_OF_CUDA_13 = 7.5
_BUILD_FOR_NEW_GPUS = "onnxruntime-gpu[cuda,cudnn]==1.28.*"  # of compute capability 10.x, left out of later builds


@dataclass(frozen=True)
class ProviderStatus:
    """Whether a provider works here.

    `reason` is what it would run on, or what is wrong, in one line; `remedy` one next step, empty if nothing is wrong;
    `details` are the facts behind it, fit for JSON: versions, devices, libraries that do not load.
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
    if name == "torch":
        version = installed_versions("torch").get("torch")
        missing = Fault("PyTorch is not installed (the extra `export` brings it)", f"Run `{install_command('export')}`")
        sound = f"PyTorch {version}, the eager reference (slow)"
        return _status(name, sound, {"torch": version}, None if version else missing)
    installation = find_installation()
    details: dict[str, Any] = {"wheels": dict(installation.wheels)}
    if TRAITS[name].on_gpu:
        devices = find_devices()
        details |= {"driver_cuda": devices.driver_cuda, "devices": devices.found}
        examine = _examine_plugin if TRAITS[name].is_plugin else _examine_cuda_or_tensorrt
        return examine(name, installation, devices, details)
    details["threads"] = cpu_threads()
    fault = installation.fault("cpu")
    if fault and installation.module is not None:
        # Mixed wheels do run, but on whichever files were written last.
        return ProviderStatus(name, True, f"{installation}; {fault.reason}", fault.remedy, details)
    return _status(name, str(installation), details, fault)


def _examine_cuda_or_tensorrt(
    name: ProviderName, installation: Installation, devices: Devices, details: dict[str, Any]
) -> ProviderStatus:
    usable, failures = list[int](), dict[str, str]()
    fault = installation.fault("gpu") or _without_provider(name, installation)
    if not fault:
        # Loads CUDA and cuDNN from their wheels; it prints or warns about what it cannot load, examined below.
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"), suppress(Exception):
            installation.module.preload_dlls()
        library = Path(installation.module.__file__).resolve().parent / f"capi/libonnxruntime_providers_{name}.so"
        # cuDNN is opened at run time; without it attention silently falls back to slower kernels.
        failures = load_failures(library, *([_CUDNN] if TRAITS[name].is_cuda else []))
        usable = [device["index"] for device in devices.found if runs_on(library, device["compute_capability"])]
        if failures:
            verb = "does not load" if len(failures) == 1 else "do not load"
            reason = f"{installation}: {', '.join(failures)} {verb} ({next(iter(failures.values()))})"
            fault = Fault(reason, remedy_for(failures))
    cuda_major = None  # that the build needs
    with suppress(Exception):
        build = import_module("onnxruntime.capi.build_and_package_info")
        cuda_major = int(str(build.cuda_version).split(".")[0])
    fault = _with_devices(fault, devices) or driver_too_old(devices.driver_cuda, cuda_major)
    if not fault and not usable:
        old = any(float(device["compute_capability"]) < _FIRST_CAPABILITY_OF_CUDA_13 for device in devices.found)
        install = pip_command(f"install {shlex.quote(BUILD_FOR_CUDA_12 if old else _BUILD_FOR_NEW_GPUS)}")
        fault = Fault(f"{installation} has no kernels for {devices}", f"Run `{install}`")
    details |= {"cuda_major": cuda_major, "failed_libraries": failures, "usable_devices": usable}
    cuda = f" (CUDA {cuda_major})" if cuda_major else ""
    return _status(name, f"{installation}{cuda}, {devices}", details, fault)


def _without_provider(name: ProviderName, installation: Installation) -> Fault | None:
    if TRAITS[name].ort_name in installation.module.get_available_providers():
        return None
    kind = "the CPU wheel " if set(installation.wheels) == {"onnxruntime"} else ""
    wheels = " ".join(installation.wheels) or "onnxruntime"
    return Fault(
        f"{kind}{installation} has no provider {name}",
        f"Run `{pip_command(f'uninstall -y {wheels}')} && {install_command('gpu')}`",
    )


def _examine_plugin(
    name: ProviderName, installation: Installation, devices: Devices, details: dict[str, Any]
) -> ProviderStatus:
    plugin = installed_versions(PLUGIN_WHEEL).get(PLUGIN_WHEEL)
    capabilities = [device["compute_capability"] for device in devices.found]
    usable = [at for at, each in enumerate(capabilities) if each in ("7.5", "8.6", "8.9") or each.startswith("12.")]
    details |= {"plugin": plugin, "usable_devices": usable}
    fault = installation.fault(name)
    if not fault and find_spec(PLUGIN_MODULE) is None:
        # Not the extra: it would put the CPU wheel beside a GPU wheel that may be there.
        fault = Fault(f"the plugin {PLUGIN_WHEEL} is not installed", f"Run `{pip_command(f'install {PLUGIN_WHEEL}')}`")
    fault = _with_devices(fault, devices)
    if devices.found and not usable:
        unsupported = f"TensorRT-RTX does not support {devices}: it needs 7.5, 8.6, 8.9 or 12.x"
        fault = Fault(f"{fault.reason}; {unsupported}" if fault else unsupported, "Use the provider cuda")
    if not fault:
        try:
            details["execution_provider"] = register_tensorrt_rtx()[0].ep_name
        except ProviderUnavailableError as error:
            fault = Fault(error.problem, error.remedy)
    return _status(name, f"{installation}, plugin {plugin}, {devices}", details, fault)


def _with_devices(fault: Fault | None, devices: Devices) -> Fault | None:
    """Join what is wrong with the software and with the machine, so that nobody installs CUDA without a GPU."""
    if fault is None or devices.fault is None:
        return fault or devices.fault
    remedy = f"On a machine with an NVIDIA GPU, {fault.remedy[0].lower()}{fault.remedy[1:]}"
    return Fault(f"{fault.reason}; {devices.fault.reason}", remedy)


def _status(name: ProviderName, sound: str, details: Mapping[str, Any], fault: Fault | None) -> ProviderStatus:
    reason, remedy = fault or (sound, "")
    return ProviderStatus(name, fault is None, reason, remedy, details)
