"""In which order (perturbation, control cell) pairs are predicted, and the batches that they form.

Batches are cut from one long sequence of pairs, across perturbations: every batch is full but the last. Which pairs
share a batch depends on the sequence and the batch size alone, so a run that is continued forms the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import NonFinitePredictionError
from scgenept_rt.expression import ControlCells
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import Perturbation
from scgenept_rt.predictor.memory_backoff import MemoryBackoff
from scgenept_rt.session import Session

Progress = Callable[[int, int], None]
"""Is told how many of how many (perturbation, control cell) pairs are done."""

Notice = Callable[[str], None]
"""Is told one-line sentences that a user should read."""


class Schedule:
    """All pairs of a run: each perturbation with its first `counts` control cells, perturbation by perturbation."""

    def __init__(self, perturbations: Sequence[Perturbation], n_controls: int) -> None:
        self.perturbations = tuple(perturbations)
        counts = [min(perturbation.n_controls or n_controls, n_controls) for perturbation in perturbations]
        self.counts: NDArray[np.int64] = np.asarray(counts, dtype=np.int64)
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.counts)])

    @property
    def n_rows(self) -> int:
        """Number of pairs."""
        return int(self.starts[-1])

    def perturbation_of(self, row: int) -> int:
        """Return the index of the perturbation that a row belongs to."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1


@dataclass(frozen=True)
class Segment:
    """Consecutive predicted rows of one perturbation: `predicted` (n_cells, n_genes) from control `first_cell` on."""

    perturbation: int
    first_cell: int
    predicted: NDArray[np.float32]


class BatchRunner:
    """Fills batches with control cells and flags, runs them and checks what comes out."""

    def __init__(self, session: Session, panel: GenePanel, controls: ControlCells, batch_size: int) -> None:
        self._session, self._panel, self._controls = session, panel, controls
        self._backoff = MemoryBackoff(session)
        n_genes = len(panel)
        self._gene_index = np.arange(n_genes, dtype=np.int64)
        self._values = np.zeros((batch_size, n_genes), dtype=np.float32)
        self._flags = np.zeros((batch_size, n_genes), dtype=np.int64)
        self.batch_size = batch_size

    def segments(self, schedule: Schedule, first_row: int = 0) -> Iterator[Segment]:
        """Predict the rows from `first_row` on, in order.

        The batch that holds `first_row` is run whole, so that its rows have the very values of an uninterrupted run.
        """
        for begin in range(first_row - first_row % self.batch_size, schedule.n_rows, self.batch_size):
            end = min(begin + self.batch_size, schedule.n_rows)
            pieces = list(self._fill(schedule, begin, end))
            predicted = self._run(end - begin)
            for perturbation, first_cell, rows in pieces:
                self._check_finite(schedule.perturbations[perturbation], first_cell, predicted[rows])
                skipped = max(first_row - (begin + rows.start), 0)
                if skipped < rows.stop - rows.start:
                    yield Segment(perturbation, first_cell + skipped, predicted[rows.start + skipped : rows.stop])

    def cells(self, perturbation: Perturbation, begin: int, end: int) -> NDArray[np.float32]:
        """Predict one perturbation from the control cells `begin` up to `end`, at most a batch."""
        self._place(perturbation, begin, slice(0, end - begin))
        predicted = self._run(end - begin)
        self._check_finite(perturbation, begin, predicted)
        return predicted

    def _fill(self, schedule: Schedule, begin: int, end: int) -> Iterator[tuple[int, int, slice]]:
        row = begin
        while row < end:
            index = schedule.perturbation_of(row)
            stop = min(end, int(schedule.starts[index + 1]))
            first_cell = row - int(schedule.starts[index])
            rows = slice(row - begin, stop - begin)
            self._place(schedule.perturbations[index], first_cell, rows)
            yield index, first_cell, rows
            row = stop

    def _place(self, perturbation: Perturbation, first_cell: int, rows: slice) -> None:
        self._controls.dense(first_cell, first_cell + rows.stop - rows.start, out=self._values[rows])
        self._flags[rows] = 0
        self._flags[rows, list(perturbation.columns)] = 1

    def _run(self, n_rows: int) -> NDArray[np.float32]:
        # A short batch is padded where another size would cost a new plan; what is left in the buffer serves for that.
        used = self.batch_size if self._session.fixed_batches else n_rows
        return self._backoff.run(self._values[:used], self._flags[:used], self._gene_index)[:n_rows]

    def _check_finite(self, perturbation: Perturbation, first_cell: int, predicted: NDArray[np.float32]) -> None:
        if np.isfinite(np.sum(predicted, dtype=np.float64)):
            return
        cell, gene = (int(i) for i in np.argwhere(~np.isfinite(predicted))[0])
        raise NonFinitePredictionError(
            perturbation.label,
            str(self._controls.obs_names[first_cell + cell]),
            self._panel.names[gene],
            float(predicted[cell, gene]),
            self._session.provider,
            self._session.precision,
        )
