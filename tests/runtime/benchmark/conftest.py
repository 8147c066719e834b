from __future__ import annotations

from pathlib import Path

import pytest

from scgenept_rt.benchmark import BenchmarkResult, run_benchmark


@pytest.fixture(scope="module")
def measured(bundle: Path) -> BenchmarkResult:
    return run_benchmark(bundle, provider="cpu", batch_sizes=(1, 3), repeats=2, threads=1, end_to_end=True)
