"""The TensorRT-RTX execution provider: a plugin library that must be registered before it can be used."""

from __future__ import annotations

import importlib
from typing import Any

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.providers.installation import find_package
from scgenept_rt.providers.onnx_runtime import import_onnxruntime

PLUGIN_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"
PLUGIN_WHEEL = "onnxruntime-ep-nv-tensorrt-rtx-cu13"
_WHERE = "provider tensorrt-rtx"


def plugin_is_installed() -> bool:
    """Return whether the plugin can be found; it is not imported, since that changes files and environment."""
    return find_package(PLUGIN_MODULE) is not None


def plugin_provider_name() -> str:
    """Return the name under which the plugin registers, for `InferenceSession.get_providers`."""
    return str(importlib.import_module(PLUGIN_MODULE).get_ep_name())


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
        first_line = "".join(str(error).strip().splitlines()[:1]) or repr(error)
        raise ProviderUnavailableError(
            f"its plugin does not load ({first_line})",
            f"Run `pip install --upgrade --force-reinstall --no-deps {PLUGIN_WHEEL}`",
            where=_WHERE,
        ) from error
    if not devices:
        raise ProviderUnavailableError("its plugin lists no device", "Use the provider cuda", where=_WHERE)
    return devices
