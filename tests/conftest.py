"""Fixtures shared by all tests: upstream's own outputs for small networks, and bundles exported from these."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from tests.commands import CommandLine, CommandServer

# As in a shell that activated this environment: its commands, and its pip, are found by name.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
for _name in ("fsync", "fdatasync"):  # no machine fails here, and waiting for its disk takes time
    setattr(os, _name, lambda _: None)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests that import ONNX Runtime by themselves report nothing
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    # A worker, and what it starts, keeps to its share of the CPUs: threads of several workers would spin on the same.
    _number, _count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    _allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, _allowed[_number::_count] or _allowed)

DATA = Path(__file__).parent / "data"
ORACLE_VARIANTS = tuple(json.loads((DATA / "oracle" / "checkpoints.json").read_text()))
ORACLE_PERTURBATIONS = tuple(json.loads((DATA / "oracle" / "perts.json").read_text()))

FULLY_EXPORTED = "scgenept_go_c_gpt_concat"
"""The variant whose bundle has every graph and PyTorch's weights; the others have the graph `ort_fp32.onnx` alone."""


@dataclass(frozen=True)
class Oracle:
    """Small checkpoints in the published layout, with the published code's outputs (`tests/data/README.md`)."""

    unpacked: Path
    checkpoints: Mapping[str, Mapping[str, str]]
    directory: Path = DATA / "oracle"

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(self.checkpoints)

    @property
    def vocab(self) -> Path:
        return self.directory / "vocab.json"

    @property
    def h5ad(self) -> Path:
        return self.directory / "data.h5ad"

    @property
    def genes(self) -> Path:
        return self.directory / "genes.txt"

    @property
    def perturbations(self) -> tuple[str, ...]:
        return ORACLE_PERTURBATIONS

    def checkpoint(self, variant: str) -> Path:
        return self.unpacked / self.checkpoints[variant]["path"]

    def golden(self, variant: str) -> dict[str, NDArray[Any]]:
        with np.load(self.directory / "goldens" / f"{variant}.npz") as arrays:
            return dict(arrays)

    def pert_flags(self, perturbation: str) -> NDArray[np.int64]:
        """Flags [n_genes] of a label, as upstream reads it: split on `+`, `ctrl` skipped."""
        names = self.genes.read_text().split()
        flags = np.zeros(len(names), dtype=np.int64)
        flags[[names.index(gene) for gene in perturbation.split("+") if gene != "ctrl"]] = 1
        return flags


@pytest.fixture(scope="session")
def full_device() -> Path:
    """A device on which every write fails because it is full."""
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("only Linux has /dev/full, on which every write fails")
    return device


@pytest.fixture(scope="session")
def command_line() -> CommandLine:
    """Runs `scgenept-rt` with arguments."""
    return CommandLine("scgenept-rt")


@pytest.fixture(scope="session")
def export_cli() -> CommandLine:
    """Runs `scgenept-export` with arguments."""
    return CommandLine("scgenept-export")


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """Runs `scgenept-rt` with arguments in a process of its own, which a test may kill."""
    server = CommandServer(tmp_path_factory.mktemp("commands"))
    yield server
    server.stop()


@pytest.fixture
def forked_commands(processes: CommandServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have programs that run `scgenept-rt` run a fork of a process that has imported it."""
    monkeypatch.setenv("PATH", f"{processes.scripts}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 24 genes with every graph (`tests/data/README.md`). Copy it before changing its files."""
    directory = tmp_path_factory.mktemp("small") / "bundle"
    with tarfile.open(DATA / "bundle.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return directory


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    unpacked = tmp_path_factory.mktemp("oracle")
    with tarfile.open(DATA / "oracle" / "checkpoints.tar.xz") as archive:
        archive.extractall(unpacked, filter="data")
    return Oracle(unpacked, json.loads((DATA / "oracle" / "checkpoints.json").read_text()))


@pytest.fixture(scope="session", params=ORACLE_VARIANTS)
def oracle_variant(request: pytest.FixtureRequest) -> str:
    """Each variant of the oracle in turn."""
    return str(request.param)


@pytest.fixture(params=ORACLE_PERTURBATIONS)
def oracle_perturbation(request: pytest.FixtureRequest) -> str:
    """Each perturbation of the golden outputs in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def quick_traces() -> Iterator[None]:
    """Let traces share the exporter's table of operators, which takes a second to make."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(scope="session")
def oracle_bundle(
    oracle: Oracle, quick_traces: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a function that gives the directory of a variant's bundle, exported once: do not change its files."""
    from scgenept_export import bundle_export

    root = tmp_path_factory.getbasetemp()
    parent = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root  # one export for all workers

    def of_variant(variant: str) -> Path:
        directory = parent / f"oracle_{variant}"
        with FileLock(f"{directory}.lock"):
            if not directory.exists():
                full = variant == FULLY_EXPORTED
                with pytest.MonkeyPatch.context() as patch:
                    if not full:
                        patch.setattr(bundle_export, "_merging_pays", lambda _: False)
                    bundle_export.export_bundle(
                        oracle.checkpoint(variant),
                        oracle.h5ad,
                        variant,
                        directory,
                        vocab=oracle.vocab,
                        dataset="norman",
                        training_total=1e4,
                        precisions=("fp32", "fp16") if full else ("fp32",),
                        portable=full,
                        keep_reference_weights=full,
                        synthetic=True,
                    )
        return directory

    return of_variant


@pytest.fixture
def copy_graphs(monkeypatch: pytest.MonkeyPatch, oracle_bundle: Callable[[str], Path]) -> None:
    """Take graphs from the oracle's bundle of GO-C: tracing them again would take seconds each."""
    from scgenept_export import bundle_export

    source = oracle_bundle("scgenept_go_c_gpt_concat")
    monkeypatch.setattr(
        bundle_export, "write_graph", lambda _model, _tokens, path, *_: shutil.copyfile(source / path.name, path)
    )
