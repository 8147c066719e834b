"""The page on embedding says that prediction needs NumPy and ONNX Runtime alone: its script runs without the rest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def test_the_pipeline_script_needs_numpy_and_onnxruntime_alone(tmp_path: Path) -> None:
    script = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]
    assert "predict_array" in script
    assert len([line for line in script.splitlines() if line.strip()]) <= 20
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_REST + script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "FOSB" in done.stdout, "the perturbed gene is among those that change most"
