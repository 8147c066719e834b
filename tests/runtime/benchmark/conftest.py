from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scgenept_rt.benchmark import BenchmarkResult, matrix_rate, run_benchmark


@pytest.fixture(autouse=True, scope="module")
def small_matrices() -> Iterator[None]:
    """Large ones take seconds, and only their rate depends on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix_rate, "_CPU_SIZE", 256)
        patch.setattr(matrix_rate, "_MIN_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def measured(bundle: Path) -> BenchmarkResult:
    return run_benchmark(bundle, provider="cpu", batch_sizes=(1, 3), repeats=2, threads=1, end_to_end=True)
