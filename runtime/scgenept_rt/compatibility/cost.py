"""What a run on a file would cost, estimated from one small batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility.findings import Finding
from scgenept_rt.errors import pluralize
from scgenept_rt.predictor import Predictor
from scgenept_rt.session import OrtSession, activation_bytes

_ENOUGH_SECONDS = 1.0
_MAX_TIMED_CELLS = 32
_PROCESS_BYTES = 200 * 2**20


@dataclass(frozen=True)
class Cost:
    """Estimates for `n_controls` cells x `n_perturbations` on the provider in use."""

    provider: str
    precision: str
    batch_size: int
    timed_cells: int
    seconds_per_cell: float
    n_controls: int
    n_perturbations: int
    memory_bytes: int

    @property
    def n_pairs(self) -> int:
        """How many (perturbation, control cell) pairs the run has."""
        return self.n_controls * self.n_perturbations

    @property
    def seconds(self) -> float:
        """How long all pairs take."""
        return self.n_pairs * self.seconds_per_cell

    def finding(self) -> Finding:
        """State the estimates."""
        rate = 1 / self.seconds_per_cell
        text = (
            f"About {_duration(self.seconds)} for {pluralize(self.n_controls, 'control cell')} x "
            f"{pluralize(self.n_perturbations, 'perturbation')} ({rate:,.3g} cells/s), and about "
            f"{self.memory_bytes / 1e6:,.0f} MB of memory: estimates from one batch of "
            f"{pluralize(self.timed_cells, 'cell')} on {self.provider}, {self.precision}."
        )
        step = None
        if self.seconds > 3600:
            fewer = "--n-controls 100, or " if self.n_controls > 100 else ""
            step = f"Fewer cells take less: {fewer}--max-error 0.01 for as many as the means need."
        return Finding("run", "ok", text, step)


def estimate_cost(predictor: Predictor, sample: Any, n_controls: int, n_perturbations: int) -> tuple[Cost, bool]:
    """Time one small batch: one cell, or as many as fit into about a second; returns also if its outputs are finite.

    Parameters
    ----------
    predictor
        The loaded bundle.
    sample
        Control cells, `csr_array` [n_cells, n_genes] in model gene order; None to time empty ones.
    n_controls, n_perturbations
        Size of the run.
    """
    n_genes = len(predictor.panel)
    batch_size = min(predictor.automatic_batch_size(), max(n_controls * n_perturbations, 1))
    seconds, finite = _timed(predictor, sample, 1)
    timed = 1
    if seconds < _ENOUGH_SECONDS:
        # The first cell also paid for what a session sets up once.
        fits = max(1, int(_ENOUGH_SECONDS / max(seconds, 1e-3)))
        timed = min(batch_size, fits, _MAX_TIMED_CELLS)
        if predictor.session.fixed_batches and timed > 1:
            _timed(predictor, sample, timed)
        seconds, finite = _timed(predictor, sample, timed)
    dimensions = predictor.bundle.manifest.dimensions
    session = predictor.session
    cells_at_once = 1 if isinstance(session, OrtSession) and session.merges_tokens else batch_size
    activations = activation_bytes(cells_at_once * n_genes, dimensions.d_model, session.precision)
    cost = Cost(
        provider=predictor.provider,
        precision=predictor.precision,
        batch_size=batch_size,
        timed_cells=timed,
        seconds_per_cell=max(seconds / timed, 1e-6),
        n_controls=n_controls,
        n_perturbations=n_perturbations,
        memory_bytes=_PROCESS_BYTES + 2 * _model_bytes(predictor.bundle, predictor.precision) + activations,
    )
    return cost, finite


def _timed(predictor: Predictor, sample: Any, n_cells: int) -> tuple[float, bool]:
    n_genes = len(predictor.panel)
    values = np.zeros((n_cells, n_genes), dtype=np.float32)
    if sample is not None and sample.shape[0]:
        values[:] = sample[np.arange(n_cells) % sample.shape[0]].toarray()
    flags = np.zeros((n_cells, n_genes), dtype=np.int64)
    flags[:, 0] = 1
    started = time.perf_counter()
    predicted = predictor.session.run(values, flags, np.arange(n_genes, dtype=np.int64))
    return time.perf_counter() - started, bool(np.all(np.isfinite(predicted)))


def _model_bytes(bundle: Bundle, precision: str) -> int:
    return max((graph.size for graph in bundle.graphs() if graph.precision == precision), default=0)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s" if seconds >= 1 else "a second"
