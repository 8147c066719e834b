"""A graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from scgenept_rt.bundle import Bundle


@pytest.fixture(scope="module")
def graph(oracle_bundle: Callable[[str], Path]) -> onnxruntime.InferenceSession:
    bundle = Bundle.open(oracle_bundle("scgenept_go_c_gpt_concat"))
    return onnxruntime.InferenceSession(
        str(bundle.path(bundle.graph("fp32", "ort"))), providers=["CPUExecutionProvider"]
    )
