"""The installed ONNX Runtime: importing it, what is wrong with the installation, and its TensorRT-RTX plugin."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.installing import install_command, pip_command
from scgenept_rt.providers.devices import Fault
from scgenept_rt.wording import reason

LOG_FATAL_ONLY: Final = 4
"""Errors are raised in ONNX Runtime's own words; they need not appear in the terminal as well."""
PLUGIN_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"
PLUGIN_WHEEL = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
# Each of these distributions writes the same package directory `onnxruntime`.
_WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-migraphx", "onnxruntime-openvino", "onnxruntime-rocm")


def import_onnxruntime() -> Any:
    """Return the module `onnxruntime`; if this imports it first, without telemetry and without its log.

    This is the one place that imports it. The official wheels since 1.29 keep a device id and a queue of events below
    the home directory, and send them. Set ORT_DISABLE_TELEMETRY to 0 to allow that. Since 1.26 the default logger warns
    about each CUDA session, and it repeats each error of CUDA that is raised; a session's own log level prevents
    neither. A damaged installation may raise anything.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    first = "onnxruntime" not in sys.modules
    module = import_module("onnxruntime")
    if first and hasattr(module, "set_default_logger_severity"):  # an incomplete installation has nothing at all
        module.set_default_logger_severity(LOG_FATAL_ONLY)
    return module


class Installation(NamedTuple):
    """The ONNX Runtime that is installed here.

    `wheels` are the versions of all distributions that provide the package `onnxruntime` that would be imported; more
    than one means that they overwrote each other's files. `module` is the imported package, None if `problem` says why.
    """

    wheels: Mapping[str, str]
    module: Any = None
    problem: str = ""

    def __str__(self) -> str:
        if self.wheels:
            return " and ".join(f"{name} {version}" for name, version in self.wheels.items())
        return f"onnxruntime {getattr(self.module, '__version__', 'of unknown version')}"

    def fault(self, extra: str) -> Fault | None:
        """Return what is wrong with the installation as a whole; installing `extra` anew resolves it."""
        problem = self.problem
        if len(self.wheels) > 1:
            problem = problem or f"{self} are installed together and overwrite each other's files"
        remove = pip_command(f"uninstall -y {' '.join(self.wheels)}") + " && " if self.wheels else ""
        return Fault(problem, f"Run `{remove}{install_command(extra)}`") if problem else None


def find_installation() -> Installation:
    """Look for ONNX Runtime and import it."""
    spec = find_spec("onnxruntime")
    origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
    found = {}
    for name in _WHEELS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.distribution(name)
    # Of several wheels, those in the directory that the package is imported from.
    places = {name: Path(str(wheel.locate_file(""))).resolve() for name, wheel in found.items()}
    here = {name: wheel for name, wheel in found.items() if origin and places[name] == origin.parent.parent}
    recorded = Installation({name: wheel.version for name, wheel in (here or found).items()})
    if origin is None:
        # Files are gone after `pip uninstall` of one of two wheels that had overwritten each other.
        gone = f"{recorded} is recorded as installed, but its files are gone"
        return recorded._replace(problem=gone if found else "onnxruntime is not installed")
    try:
        with warnings.catch_warnings(action="ignore"):  # a GPU wheel warns of libraries that are examined later
            module = import_onnxruntime()
    except Exception as error:
        return recorded._replace(problem=f"{recorded} does not import ({reason(error)})")
    if not hasattr(module, "get_available_providers"):
        return recorded._replace(problem=f"{recorded} is incomplete: some of its files are gone")
    return recorded._replace(module=module)


def register_tensorrt_rtx() -> list[Any]:
    """Register the plugin with ONNX Runtime and return its `OrtEpDevice`s, one per supported GPU in CUDA's order.

    Registering again does nothing. Raises `ProviderUnavailableError` if it does not load or offers no device.
    """
    onnxruntime, where = import_onnxruntime(), "provider tensorrt-rtx"
    try:
        plugin = import_module(PLUGIN_MODULE)
        name = plugin.get_ep_name()
        try:
            onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
        except Exception as error:
            if "already" not in str(error).lower():
                raise
        devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    except Exception as error:
        problem = f"its plugin does not load ({reason(error)})"
        remedy = f"Run `{pip_command(f'install --upgrade --force-reinstall --no-deps {PLUGIN_WHEEL}')}`"
        raise ProviderUnavailableError(problem, remedy, where=where) from error
    if not devices:
        raise ProviderUnavailableError("its plugin lists no device", "Use the provider cuda", where=where)
    return devices
