"""Importing ONNX Runtime: the one place that does, so that telemetry and logging are settled first."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Final

TELEMETRY_VARIABLE: Final = "ORT_DISABLE_TELEMETRY"
_LOG_FATAL_ONLY: Final = 4


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
