from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from scgenept_rt.benchmark import encoder_flops, run_benchmark
from scgenept_rt.benchmark.machine import cpu_model
from scgenept_rt.benchmark.measurement import benchmark_cells
from scgenept_rt.bundle import Dimensions
from scgenept_rt.errors import ArgumentError, DeviceMemoryError, ReferenceMismatchError
from scgenept_rt.session import OrtSession

QUICK: dict[str, Any] = {"provider": "cpu", "batch_sizes": (1, 3), "repeats": 2, "threads": 1}

# A process of its own: in one that has run hundreds of tests, memory goes back and forth for other reasons.
HOST_PEAK = """
import numpy as np
from scgenept_rt.benchmark import machine

machine.reset_host_peak()
before = machine.host_peak_bytes()
block = np.ones(64 * 2**20, dtype=np.uint8)
with_block = machine.host_peak_bytes() - before
del block
machine.reset_host_peak()
print(with_block, machine.host_peak_bytes() - before)
"""


@pytest.fixture(scope="module")
def measured(bundle: Path) -> dict[str, Any]:
    return run_benchmark(bundle, provider="cpu", batch_sizes=(1, 3), repeats=2, threads=1, end_to_end=True)


def test_every_row_has_its_error_first_and_consistent_figures(measured: dict[str, Any]):
    checked, dimensions = measured["reference"], Dimensions(**measured["dimensions"])
    assert checked["comparison"]["worst"] <= 1
    assert (checked["provider"], checked["precision"], measured["repeats"]) == ("cpu", "fp32", 2)
    assert measured["attention_kernel"] is None
    assert [row["batch_size"] for row in measured["timings"]] == [1, 3]
    for row in measured["timings"]:
        assert row["problem"] == ""
        assert row["n_genes"] == 24
        assert row["p50_ms"] > 0
        assert row["p95_ms"] is None, "of so few runs it would be the slowest one"
        assert row["cells_per_second"] == pytest.approx(row["batch_size"] / row["p50_ms"] * 1e3)
        # Of the tokens that were computed: genes outside the vocabulary that are not expressed are one.
        assert row["tokens_per_cell"] < 24
        one_more, one_less = (encoder_flops(dimensions, round(row["tokens_per_cell"]) + i) for i in (1, -1))
        assert one_less < row["gflops"] * 1e9 / row["cells_per_second"] < one_more
        assert row["peak_host_bytes"] > 10e6
        assert row["peak_device_bytes"] is None
    files = measured["end_to_end"]
    assert (files["n_controls"], files["n_perturbations"], files["batch_size"]) == (3, 2, 3)
    assert files["cells_per_second"] == pytest.approx(6 / files["seconds"])
    assert files["share_of_session"] > 0


def test_the_machine_is_described_without_its_name(measured: dict[str, Any]):
    assert measured["machine"]["threads"] == 1
    assert measured["machine"]["cpu"] == cpu_model()
    assert measured["machine"]["versions"]["onnxruntime"] == onnxruntime.__version__
    assert os.uname().nodename not in json.dumps(measured)


def test_wrong_outputs_are_never_timed(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    run = OrtSession.run
    monkeypatch.setattr(OrtSession, "run", lambda self, *inputs: run(self, *inputs) + np.float32(0.1))
    with pytest.raises(ReferenceMismatchError):
        run_benchmark(bundle, **QUICK)


def test_a_batch_that_the_provider_cannot_hold_is_a_row_with_the_reason(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    run = OrtSession.run

    def limited(self: OrtSession, values: Any, *inputs: Any) -> Any:
        if values.shape[0] == 3:
            raise DeviceMemoryError("the provider cpu ran out of memory")
        return run(self, values, *inputs)

    monkeypatch.setattr(OrtSession, "run", limited)
    first, second = run_benchmark(bundle, **QUICK)["timings"]
    assert first["problem"] == ""
    assert second["problem"] == "out of memory"
    assert second["p50_ms"] is second["cells_per_second"] is None


def test_outputs_that_are_not_finite_are_a_row_with_the_reason(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    run = OrtSession.run

    def broken(self: OrtSession, values: Any, *inputs: Any) -> Any:
        return run(self, values, *inputs) * (np.float32("nan") if values.shape[0] == 3 else np.float32(1))

    monkeypatch.setattr(OrtSession, "run", broken)
    rows = run_benchmark(bundle, **QUICK)["timings"]
    assert [row["problem"] for row in rows] == ["", "the outputs are not finite"]


@pytest.mark.parametrize("wrong", [{"batch_sizes": (1, 0)}, {"repeats": -1}])
def test_numbers_below_1_are_refused(bundle: Path, wrong: dict[str, Any]):
    with pytest.raises(ArgumentError, match="expected numbers from 1"):
        run_benchmark(bundle, provider="cpu", **wrong)


def test_cells_look_like_log_normalised_expression():
    values, flags = benchmark_cells(50, 400)
    assert values.dtype == np.float32
    assert flags.dtype == np.int64
    assert 0.07 < (values > 0).mean() < 0.09
    assert values.min() >= 0
    assert 1 < values.max() < 10
    assert (flags.sum(axis=1) == 1).all()


def test_published_size_needs_816_gflop_626_of_them_in_attention():
    published = Dimensions(n_genes=5045, n_table_genes=5045, d_model=512, n_layers=12, n_heads=8, d_ff=512)
    assert encoder_flops(published, 5045) == pytest.approx(816e9, rel=1e-3)
    projections_and_feed_forward = 12 * 5045 * (8 * 512**2 + 4 * 512 * 512)
    assert encoder_flops(published, 5045) - projections_and_feed_forward == pytest.approx(626e9, rel=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets the peak, through /proc/self/clear_refs")
def test_host_peak_is_counted_anew():
    done = subprocess.run([sys.executable, "-c", HOST_PEAK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with_block, without = map(int, done.stdout.split())
    assert with_block > 48 * 2**20
    assert without < 32 * 2**20
