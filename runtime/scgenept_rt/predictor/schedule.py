"""In which order (perturbation, control cell) pairs are predicted, and the batches that they form.

Batches are cut from one long sequence of pairs, across perturbations: every batch is full but the last. Which pairs
share a batch depends on the sequence and the batch size alone, so a run that is continued forms the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import NonFinitePredictionError
from scgenept_rt.expression import ControlCells
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import Perturbation
from scgenept_rt.predictor.pipeline import BatchBuffers, BatchPipeline
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
    """Fills batches with control cells and flags, has them run ahead, and checks what comes out."""

    def __init__(self, session: Session, panel: GenePanel, controls: ControlCells, batch_size: int) -> None:
        self._session, self._panel, self._controls = session, panel, controls
        self.batch_size = batch_size

    def pipeline(self) -> BatchPipeline:
        """Return a pipeline for batches of this size, to be used as a context manager."""
        return BatchPipeline(self._session, self.batch_size, len(self._panel))

    def segments(self, schedule: Schedule, first_row: int = 0) -> Generator[Segment, None, None]:
        """Predict the rows from `first_row` on, in order.

        The batch that holds `first_row` is run whole, so that its rows have the very values of an uninterrupted run.
        """
        with self.pipeline() as pipeline:
            batches = self._batches(schedule, first_row, pipeline)
            for pieces, predicted in pipeline.run_all(batches):
                for piece in pieces:
                    rows = predicted[piece.rows]
                    self.check_finite(schedule.perturbations[piece.perturbation], piece.first_cell, rows)
                    skipped = max(first_row - piece.first_row, 0)
                    if skipped < len(rows):
                        yield Segment(piece.perturbation, piece.first_cell + skipped, rows[skipped:])

    def place(self, buffers: BatchBuffers, perturbation: Perturbation, first_cell: int, rows: slice) -> None:
        """Fill rows of a batch with the control cells from `first_cell` on and the flags of a perturbation."""
        self._controls.dense(first_cell, first_cell + rows.stop - rows.start, out=buffers.values[rows])
        buffers.pert_flags[rows] = 0
        buffers.pert_flags[rows, list(perturbation.columns)] = 1

    def check_finite(self, perturbation: Perturbation, first_cell: int, predicted: NDArray[np.float32]) -> None:
        """Raise `NonFinitePredictionError` if rows from control `first_cell` on hold NaN or infinity."""
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

    def _batches(
        self, schedule: Schedule, first_row: int, pipeline: BatchPipeline
    ) -> Iterator[tuple[list[_Piece], int]]:
        """Fill the pipeline's buffers with one batch after the other; yield its pieces and its number of rows."""
        for begin in range(first_row - first_row % self.batch_size, schedule.n_rows, self.batch_size):
            end = min(begin + self.batch_size, schedule.n_rows)
            pieces = list(_pieces(schedule, begin, end))
            for piece in pieces:
                self.place(pipeline.buffers, schedule.perturbations[piece.perturbation], piece.first_cell, piece.rows)
            yield pieces, end - begin


@dataclass(frozen=True)
class _Piece:
    """What a batch holds of one perturbation: `rows` of the batch, the first of them `first_row` of the schedule."""

    perturbation: int
    first_cell: int
    rows: slice
    first_row: int


def _pieces(schedule: Schedule, begin: int, end: int) -> Iterator[_Piece]:
    row = begin
    while row < end:
        index = schedule.perturbation_of(row)
        stop = min(end, int(schedule.starts[index + 1]))
        yield _Piece(index, row - int(schedule.starts[index]), slice(row - begin, stop - begin), row)
        row = stop
