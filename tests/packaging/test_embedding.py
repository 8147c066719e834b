"""The page on embedding says that prediction needs NumPy and ONNX Runtime alone: its script runs without the rest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import requests

import scgenept_rt as sgr

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"

WITHOUT_THE_REST = """
import importlib.abc, importlib.metadata, re, sys

dependencies = {re.match("[A-Za-z0-9_-]+", line)[0].replace("-", "_").lower()
                for line in importlib.metadata.requires("scgenept-rt")}
refused = (dependencies | {"click", "zarr", "torch", "onnx"}) - {"numpy", "onnxruntime", "scgenept_rt"}

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].lower() in refused:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

assert {"anndata", "pandas", "h5py", "scipy", "typer"} <= refused
sys.meta_path.insert(0, Refuse())
"""


def scripts() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_pipeline_script_needs_numpy_and_onnxruntime_alone(tmp_path: Path) -> None:
    script = scripts()[0]
    assert "predict_array" in script
    assert len([line for line in script.splitlines() if line.strip()]) <= 20
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_REST + script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "FOSB" in done.stdout, "the perturbed gene is among those that change most"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of the page's service, which runs with what the page's Dockerfile installs."""
    for package in ("fastapi", "uvicorn"):
        pytest.importorskip(package, reason=f"{package} is one of the extra dev")
    (tmp_path / "service.py").write_text(next(script for script in scripts() if "FastAPI" in script))
    start = "\nrefused -= {'fastapi', 'uvicorn', 'click'}\nimport uvicorn\nuvicorn.run('service:app', port=0)"
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_THE_REST + start],
        cwd=tmp_path,
        env={**os.environ, "BUNDLE": "demo"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = next(line for line in process.stderr if "running on" in line)
        yield re.findall(r"http://[\d.:]+", said)[0]
    finally:
        process.terminate()
        process.communicate()


def test_the_service_answers_each_request_with_its_own_perturbations(service: str) -> None:
    genes = requests.get(f"{service}/genes", timeout=60).json()
    values = np.random.default_rng(0).gamma(0.3, 1.0, (5, len(genes))).astype(np.float32)
    labels = ["FOSB+ctrl", "SAMD1+ZBTB1", "ctrl", "CDKN1B+ctrl", "FOSB+SAMD1"]
    wrong = [
        {"values": values[:1].tolist(), "perturbations": ["NOGENE+ctrl"]},
        {"values": values[:1, 1:].tolist(), "perturbations": ["FOSB+ctrl"]},
        {"values": values[:2].tolist(), "perturbations": ["FOSB+ctrl"]},
        {"values": values[:1].tolist(), "perturbations": ["FOSB+ctrl", "ctrl"]},
    ]
    right = [{"values": [row], "perturbations": [label]} for row, label in zip(values.tolist(), labels, strict=True)]
    with ThreadPoolExecutor(9) as threads:
        ask = partial(requests.post, f"{service}/predict", timeout=120)
        answers = list(threads.map(lambda body: ask(json=body), [*right, *wrong]))
    assert [answer.status_code for answer in answers] == [200] * 5 + [422] * 4
    assert "NOGENE" in answers[5].json()["detail"]
    predicted = np.concatenate([answer.json() for answer in answers[:5]])
    with sgr.load("demo", provider="cpu") as model:
        expected = model.predict_array(values, labels)
        assert model.bundle.tolerance("fp32").compare(predicted, expected).passed
