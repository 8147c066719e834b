"""What a run would cost, estimated from one small batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.options import FEWER_CONTROLS, FEWER_PREDICTIONS
from scgenept_rt.predictor import Predictor
from scgenept_rt.session import devices_of
from scgenept_rt.wording import format_duration, pluralize

_ENOUGH_SECONDS = 1.0
_MAX_TIMED_CELLS = 32


@dataclass(frozen=True)
class Cost:
    """Estimates for `n_controls` cells x `n_perturbations` on the provider in use."""

    provider: str
    precision: str
    timed_cells: int
    seconds_per_cell: float
    n_controls: int
    n_perturbations: int
    n_devices: int = 1

    @property
    def seconds(self) -> float:
        """How long the whole run takes."""
        return self.n_controls * self.n_perturbations * self.seconds_per_cell / self.n_devices

    def finding(self) -> Finding:
        """Return the estimates in words."""
        rate = f"{1 / self.seconds_per_cell:,.3g} cells/s"
        if self.n_devices > 1:
            rate += f" on each of {self.n_devices} devices"
        text = (
            f"About {format_duration(max(self.seconds, 1))} for {pluralize(self.n_controls, 'control cell')} x "
            f"{pluralize(self.n_perturbations, 'perturbation')} ({rate}), estimated "
            f"from one batch of {pluralize(self.timed_cells, 'cell')} on {self.provider}, {self.precision}"
        )
        if self.seconds < 3600:
            return Finding("run", "ok", text)
        return Finding("run", "ok", text, options=(FEWER_PREDICTIONS, FEWER_CONTROLS))


def estimate_cost(predictor: Predictor, sample: Any, n_controls: int, n_perturbations: int) -> Cost:
    """Time one small batch: one cell, or as many as fit into about a second.

    `sample` are control cells, `csr_array` [n_cells, n_genes] in model gene order; None to time empty ones.
    """
    timed, seconds = 1, _seconds(predictor, sample, 1)
    if seconds < _ENOUGH_SECONDS:
        # The first cell also paid for what a session sets up once.
        fits = max(1, int(_ENOUGH_SECONDS / max(seconds, 1e-3)))
        timed = min(predictor.automatic_batch_size(), n_controls * n_perturbations, fits, _MAX_TIMED_CELLS)
        if predictor.session.fixed_batches and timed > 1:
            _seconds(predictor, sample, timed)
        seconds = _seconds(predictor, sample, timed)
    per_cell, n_devices = max(seconds / timed, 1e-6), len(devices_of(predictor.session))
    return Cost(predictor.provider, predictor.precision, timed, per_cell, n_controls, n_perturbations, n_devices)


def _seconds(predictor: Predictor, sample: Any, n_cells: int) -> float:
    values = np.zeros((n_cells, len(predictor.panel)), dtype=np.float32)
    if sample is not None:
        values[:] = sample[np.arange(n_cells) % sample.shape[0]].toarray()
    started = time.perf_counter()
    predictor.predict_array(values, predictor.gene_names[0], batch_size=n_cells)
    return time.perf_counter() - started
