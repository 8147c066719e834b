"""Importing ONNX Runtime (the one place that does, so that telemetry and logging are settled first) and its plugin."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Final

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.installing import pip_command
from scgenept_rt.wording import reason

TELEMETRY_VARIABLE: Final = "ORT_DISABLE_TELEMETRY"
_LOG_FATAL_ONLY: Final = 4
PLUGIN_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"
PLUGIN_WHEEL = "onnxruntime-ep-nv-tensorrt-rtx-cu13"


def import_onnxruntime() -> Any:
    """Return the module `onnxruntime`; if this imports it first, without telemetry and without its log.

    The official wheels since 1.29 keep a device id and a queue of events below the home directory, and send them. Set
    ORT_DISABLE_TELEMETRY to 0 to allow that. Since 1.26 the default logger warns about each CUDA session, and it
    repeats each error of CUDA that is raised; a session's own log level prevents neither.

    Raises
    ------
    ImportError
        If it is not installed. A damaged installation may raise anything else.
    """
    os.environ.setdefault(TELEMETRY_VARIABLE, "1")
    first = "onnxruntime" not in sys.modules
    module = import_module("onnxruntime")
    if first and hasattr(module, "set_default_logger_severity"):  # an incomplete installation has nothing at all
        module.set_default_logger_severity(_LOG_FATAL_ONLY)
    return module


def register_tensorrt_rtx() -> list[Any]:
    """Register the plugin with ONNX Runtime and return its `OrtEpDevice`s, one per supported GPU in CUDA's order.

    Pass them to `SessionOptions.add_provider_for_devices`. Registering again does nothing.

    Raises
    ------
    ProviderUnavailableError
        If the plugin does not load or offers no device.
    """
    onnxruntime = import_onnxruntime()
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
        raise ProviderUnavailableError(problem, remedy, where="provider tensorrt-rtx") from error
    if not devices:
        problem = "its plugin lists no device"
        raise ProviderUnavailableError(problem, "Use the provider cuda", where="provider tensorrt-rtx")
    return devices
