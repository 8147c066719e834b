"""The real CUDA provider on CUDA libraries that compute nothing (`standin/`), run by `make test-cuda`.

Where nodes run, which kernels are launched, what memory is taken and what errors say is real here. Outputs are zeros.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from tests.commands import CommandServer
from tests.runtime.bundle_changes import seal

STANDIN = os.environ.get("CUDA_STANDIN")
collect_ignore_glob = [] if STANDIN else ["test_*.py"]  # the other environments have no CUDA provider


@dataclass(frozen=True)
class Run:
    """A finished process, and what it asked of CUDA: lines of the stand-in's log without the thread."""

    code: int
    stdout: str
    stderr: str
    log: Sequence[str]
    threads: Sequence[int]

    def calls(self, *names: str) -> list[str]:
        return [line for line in self.log if line.startswith(names)]

    def kernels(self, name: str) -> list[str]:
        return [line for line in self.calls("launch ") if name in line]


@pytest.fixture
def run(processes: CommandServer, tmp_path: Path) -> Callable[..., Run]:
    """Return a function that runs `scgenept-rt`, or with `code=` a program, on the stand-in with some settings."""
    number = 0

    def call(*arguments: str | Path, code: str | None = None, **settings: str) -> Run:
        nonlocal number
        number += 1
        log = tmp_path / f"cuda{number}.log"
        environment = {"STANDIN_LOG": str(log), "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "200", **settings}
        if code is None and "LD_LIBRARY_PATH" not in settings:
            done = processes(*arguments, environment=environment)
        else:  # the loader of libraries reads its variable when a process starts
            what = ["-m", "scgenept_rt"] if code is None else ["-c", code]
            command = [sys.executable, *what, *map(str, arguments)]
            done = subprocess.run(
                command, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
            )
        lines = [line.split(" ", 1) for line in log.read_text().splitlines()] if log.exists() else []
        return Run(
            done.returncode,
            done.stdout,
            done.stderr,
            [text for _, text in lines],
            [int(thread) for thread, _ in lines],
        )

    return call


@pytest.fixture(scope="session")
def bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 24 genes, 3 layers of 8 heads, with every graph; its reference is zeros."""
    directory = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("zeros") / "bundle"))
    with np.load(directory / "reference.npz") as arrays:
        np.savez(directory / "reference.npz", **{**arrays, "predicted": np.zeros_like(arrays["predicted"])})
    seal(directory)
    return directory


@pytest.fixture(scope="session")
def genes(bundle: Path) -> tuple[str, ...]:
    return tuple(sgr.Bundle.open(bundle).manifest.gene_names)


@pytest.fixture(scope="session")
def cells(genes: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 control cells, and 10 measured ones of two genes and of the pair."""
    rng = np.random.default_rng(0)
    a, b = genes[3], genes[5]
    condition = np.repeat(["ctrl", f"{a}+ctrl", f"{b}+ctrl", f"{a}+{b}"], [40, 10, 10, 10])
    values = np.log1p(rng.gamma(1.0, 3.0, (len(condition), len(genes)))).astype(np.float32)
    obs = pd.DataFrame({"condition": condition}, index=[f"cell{number}" for number in range(len(condition))])
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=list(genes))).write_h5ad(path)
    return path
