"""What the tests of prediction share: one small bundle, and control cells for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from tests.commands import CommandLine
from tests.conftest import DATA
from tests.runtime.bundle_changes import keep_graphs

CELLS = DATA / "oracle" / "data.h5ad"
"""Cells with the genes of the bundle."""


@pytest.fixture
def bundle_copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, whose files a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.fixture
def fp32_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A bundle with the fp32 graphs for ONNX Runtime alone, as `scgenept-export bundle` writes without options."""
    copy = Path(shutil.copytree(bundle, tmp_path / "fp32_bundle"))
    keep_graphs(copy, lambda file: file["precision"] == "fp32" and file["target"] in ("ort", "merged"))
    return copy


@pytest.fixture(scope="session")
def model(bundle: Path) -> sgr.Predictor:
    return sgr.load(bundle, provider="cpu", threads=1)


@pytest.fixture(scope="session")
def make_cells(model: sgr.Predictor) -> Callable[..., anndata.AnnData]:
    """Return a function that makes control cells with the model's genes: log1p values, half of them zero."""

    def make(n_cells: int, *, seed: int = 0) -> anndata.AnnData:
        rng = np.random.default_rng(seed)
        shape = (n_cells, len(model.gene_names))
        values = np.log1p(rng.gamma(1.0, 3.0, shape) * (rng.random(shape) < 0.5)).astype(np.float32)
        obs = pd.DataFrame({"condition": "ctrl"}, index=[f"cell{number}" for number in range(n_cells)])
        return anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=model.gene_names))

    return make


@pytest.fixture
def run(command_line: CommandLine) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `scgenept-rt`, and returns its exit code and what it printed."""

    def call(*arguments: object) -> tuple[int, str, str]:
        done = command_line(*arguments)
        return done.returncode, done.stdout, done.stderr

    return call
