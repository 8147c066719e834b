from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from scgenept_rt.benchmark import BenchmarkOptions, BenchmarkResult, check_plot_path, run_benchmark, write_plot
from scgenept_rt.benchmark.plot import PlotFormatError


def test_plot_is_written(measured: BenchmarkResult, tmp_path: Path):
    pytest.importorskip("matplotlib")
    write_plot(measured, tmp_path / "throughput.png")
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")


def test_plot_of_rows_that_all_failed_is_written(measured: BenchmarkResult, tmp_path: Path):
    pytest.importorskip("matplotlib")
    empty = BenchmarkResult(measured.machine, "scgpt", "", measured.dimensions, ())
    write_plot(empty, tmp_path / "throughput.svg")
    assert (tmp_path / "throughput.svg").stat().st_size > 0


def test_plot_of_another_ending_is_refused(tmp_path: Path):
    pytest.importorskip("matplotlib")
    with pytest.raises(PlotFormatError, match=r"\.png"):
        check_plot_path(tmp_path / "throughput.xlsx")


def test_nothing_here_imports_matplotlib_unasked(monkeypatch: pytest.MonkeyPatch, bundle: Path):
    real = builtins.__import__

    def guarded(name: str, *args: Any, **options: Any) -> Any:
        assert not name.startswith("matplotlib")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", guarded)
    run_benchmark(bundle, BenchmarkOptions(provider="cpu", batch_sizes=(1,), repeats=1, threads=1))
