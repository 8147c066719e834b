from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scgenept_rt.benchmark import BenchmarkResult, run_benchmark
from scgenept_rt.plotting import save, throughput


@pytest.fixture(scope="module")
def measured(bundle: Path, small_matrices: None) -> BenchmarkResult:
    return run_benchmark(bundle, provider="cpu", batch_sizes=(1, 2), n_genes=20, repeats=1, threads=1)


def test_a_line_has_a_point_for_each_batch_size(measured: BenchmarkResult, tmp_path: Path) -> None:
    axes = throughput(measured)
    (line,) = axes.get_lines()
    assert line.get_label() == "cpu, fp32"
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == [timing.cells_per_second for timing in measured.timings]
    assert save(axes, tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("synthetic", [True, False])
def test_the_title_tells_synthetic_weights(measured: BenchmarkResult, synthetic: bool) -> None:
    axes = throughput(dataclasses.replace(measured, synthetic=synthetic))
    assert ("synthetic" in axes.get_title()) == synthetic


def test_batches_that_failed_have_no_point(measured: BenchmarkResult) -> None:
    first, second = measured.results[0].timings
    failed = dataclasses.replace(second, cells_per_second=None, problem="out of memory")
    results = (dataclasses.replace(measured.results[0], timings=(first, failed)),)
    (line,) = throughput(dataclasses.replace(measured, results=results)).get_lines()
    assert list(line.get_xdata()) == [1]


def test_a_result_without_any_rate_is_drawn(measured: BenchmarkResult, tmp_path: Path) -> None:
    empty = dataclasses.replace(measured, results=())
    assert save(throughput(empty), tmp_path / "throughput.svg").stat().st_size > 0
