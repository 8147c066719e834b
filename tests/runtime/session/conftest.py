"""A graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest


@pytest.fixture(scope="module")
def graph(bundle: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(bundle / "ort_fp32.onnx"), providers=["CPUExecutionProvider"])
