"""The TensorRT-RTX execution provider: a plugin library that must be registered before it can be used."""

from __future__ import annotations

import importlib
from typing import Any

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.installing import pip_command
from scgenept_rt.providers.onnx_runtime import import_onnxruntime
from scgenept_rt.wording import reason

PLUGIN_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"
PLUGIN_WHEEL = "onnxruntime-ep-nv-tensorrt-rtx-cu13"


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
        plugin = importlib.import_module(PLUGIN_MODULE)
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
