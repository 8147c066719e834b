"""Importing ONNX Runtime, in one place: whether it reports to its makers is settled before, for the whole process."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Final

TELEMETRY_VARIABLE: Final = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """Return the module `onnxruntime`; where this imports it first, without its telemetry.

    The official wheels since 1.29 keep a device id and a queue of events below the home directory, and send them. Who
    wants that sets ORT_DISABLE_TELEMETRY to 0.

    Raises
    ------
    ImportError
        If it is not installed. A damaged installation raises whatever else it likes.
    """
    os.environ.setdefault(TELEMETRY_VARIABLE, "1")
    return import_module("onnxruntime")
