"""What the tests of prediction share: one small bundle, control cells for it, and the command line as a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from tests.conftest import DATA
from tests.runtime.bundle_changes import keep_graphs

CELLS = DATA / "oracle" / "data.h5ad"
"""Cells with the genes of the bundle."""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 24 genes with every graph (`tests/data/README.md`). Copy it before changing its files."""
    directory = tmp_path_factory.mktemp("small") / "bundle"
    with tarfile.open(DATA / "bundle.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return directory


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


@pytest.fixture(scope="module")
def small_matrices() -> Iterator[None]:
    """Let `benchmark` multiply small matrices: large ones take seconds, and only their rate depends on the size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scgenept_rt.benchmark.matrix_rate._CPU_SIZE", 256)
        patch.setattr("scgenept_rt.benchmark.matrix_rate._MIN_SECONDS", 0.0)
        yield


class CommandServer:
    """Starts `scgenept-rt` in processes of their own, see `command_server.py`; one at a time."""

    def __init__(self, directory: Path) -> None:
        self._stdout, self._stderr = directory / "stdout", directory / "stderr"
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("command_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def start(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        kill_at: int | None = None,
        of: str = "finish_all",
        devices: int = 1,
    ) -> int:
        """Start a command and return the id of its process; see `command_server.py` for `kill_at` and `devices`."""
        job = {
            "argv": ["scgenept-rt", *map(str, arguments)],
            "stdout": str(self._stdout),
            "stderr": str(self._stderr),
            "cwd": str(cwd or Path.cwd()),
            "kill_at": kill_at,
            "from": of,
            "devices": devices,
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(self._answer())

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait for the command that was started; a negative return code is the signal that ended it."""
        status = int(self._answer())
        return subprocess.CompletedProcess(["scgenept-rt"], status, self._stdout.read_text(), self._stderr.read_text())

    def __call__(self, *arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; see `start`."""
        self.start(*arguments, **how)
        return self.wait()

    def stop(self) -> None:
        self._server.communicate(timeout=60)

    def _answer(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()


@pytest.fixture(scope="session")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """Runs `scgenept-rt` with arguments in a process of its own."""
    server = CommandServer(tmp_path_factory.mktemp("commands"))
    yield server
    server.stop()
