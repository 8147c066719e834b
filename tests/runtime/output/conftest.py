from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import Perturbation

GENES = ("FOSB", "SAMD1", "ZBTB1", "KLF1", "CEBPA")


@pytest.fixture
def panel() -> GenePanel:
    ids = ("ENSG1", "ENSG2", None, "ENSG4", "ENSG5")
    return GenePanel(GENES, ids, np.array([True, True, True, False, True]))


@pytest.fixture
def perturbations() -> list[Perturbation]:
    return [
        Perturbation("FOSB+ctrl", ("FOSB",), (0,)),
        Perturbation("ZBTB1+SAMD1", ("SAMD1", "ZBTB1"), (1, 2)),
        Perturbation("KLF1", ("KLF1",), (3,)),
    ]


@pytest.fixture
def controls() -> list[str]:
    return ["AAAC-1", "AAAG-1", "AAAT-1", "AAAG-1"]


@pytest.fixture
def read_table() -> Callable[[Path], anndata.AnnData]:
    def read(path: Path) -> anndata.AnnData:
        return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.io.read_zarr(path)

    return read


@pytest.fixture
def assert_same() -> Callable[[anndata.AnnData, anndata.AnnData], None]:
    """Equal to the last bit, names and columns included."""

    def check(actual: anndata.AnnData, expected: anndata.AnnData) -> None:
        assert actual.X.dtype == np.float32
        assert actual.X.tobytes() == expected.X.tobytes()
        assert set(actual.layers) == set(expected.layers)
        for name in expected.layers:
            assert actual.layers[name].tobytes() == expected.layers[name].tobytes()
        for ours, theirs in ((actual.obs, expected.obs), (actual.var, expected.var)):
            assert list(ours.columns) == list(theirs.columns)
            assert list(ours.index) == list(theirs.index)
            for column in theirs:
                assert [str(value) for value in ours[column]] == [str(value) for value in theirs[column]]
        assert set(actual.uns) == set(expected.uns)

    return check


class WriterProcess:
    """A process that has everything imported and forks a writer for each job, so that many can be killed quickly."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("slow_writer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = 0

    def start(self, **job: Any) -> int:
        """Begin a job and return the id of the process that does it."""
        self._send(job)
        self.pid = int(self._answer())
        return self.pid

    def status(self) -> int:
        """Wait for the job; returns as `subprocess.Popen.returncode` does."""
        return int(self._answer())

    def run(self, **job: Any) -> int:
        self.start(**job)
        return self.status()

    def _send(self, job: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dict(job)) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def writer_process() -> Iterator[WriterProcess]:
    process = WriterProcess()
    yield process
    process.end()


@pytest.fixture
def random_rows() -> Callable[[int, Sequence[str]], dict[str, np.ndarray]]:
    def rows(n_rows: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(7)
        return {name: rng.normal(size=(n_rows, len(GENES))).astype(np.float32) for name in names}

    return rows
