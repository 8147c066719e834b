"""Figures of a benchmark."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from scgenept_rt.bundle import Dimensions
from scgenept_rt.files.text import json_text
from scgenept_rt.verification import ReferenceResult


@dataclass(frozen=True)
class Timing:
    """One batch size; if it did not run, figures are None and `problem` is the reason.

    Attributes
    ----------
    p50_ms, p95_ms
        Milliseconds per batch, from inputs to outputs in host memory, without warm-up; p95 of 20 runs or more only.
    cells_per_second
        `batch_size` over the median.
    cpu_seconds_per_cell
        Processor time of all threads of the process.
    tokens_per_cell
        Tokens computed per cell: the genes, less those merged as identical.
    gflops
        `encoder_flops` of these tokens over the median.
    peak_host_bytes
        Largest resident size while this batch size ran (since the process started, where the system cannot tell).
    peak_device_bytes
        Device memory beyond that before the bundle was opened; on GPUs only.
    """

    batch_size: int
    n_genes: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    cells_per_second: float | None = None
    cpu_seconds_per_cell: float | None = None
    tokens_per_cell: float | None = None
    gflops: float | None = None
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class EndToEnd:
    """A prediction from an .h5ad file to an .h5ad file: opening, reading, predicting, reducing and writing.

    `cells_per_second` counts (perturbation, control cell) pairs; `share_of_session` is its share of the rate of the
    network alone, timed before in batches of the same size.
    """

    n_controls: int
    n_perturbations: int
    batch_size: int
    open_seconds: float
    seconds: float
    cells_per_second: float
    share_of_session: float
    peak_host_bytes: int | None


@dataclass(frozen=True)
class BenchmarkResult:
    """Figures of a bundle; from `run_benchmark`. `repeats`: timed runs of each batch size."""

    machine: dict[str, Any]
    variant: str
    synthetic: bool
    manifest_digest: str
    dimensions: Dimensions
    reference: ReferenceResult
    choice_reason: str
    attention_kernel: str | None
    open_seconds: float
    repeats: int
    timings: tuple[Timing, ...]
    end_to_end: EndToEnd | None

    def to_json(self) -> str:
        """Return all figures as JSON."""
        return json_text({"kind": "scgenept-rt benchmark", **dataclasses.asdict(self)}, indent=1) + "\n"
