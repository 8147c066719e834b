"""The batch loop: control cells and perturbations go through a session, batch by batch, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scgenept_rt.errors import DeviceMemoryError, NonFinitePredictionError, UseOption
from scgenept_rt.perturbation import Perturbation
from scgenept_rt.session import Session, devices_of, free_device, planned_size

if TYPE_CHECKING:
    from scgenept_rt.predictor.predictor import Predictor

Progress = Callable[[int, int], None]
"""Called with the number of (perturbation, control cell) pairs that are done, and their total."""

OnNotice = Callable[[str], None]
"""Called with each warning message."""

BATCHES_PER_DEVICE = 4
"""Batches that wait or run, of several devices: none idles while means are written, or another one is slower."""

THREAD_NAME = "scgenept-rt-network"


@dataclass(frozen=True)
class Part:
    """Rows of a batch that belong to one perturbation, at `index` of the schedule: its cells from `first_cell` on."""

    index: int
    perturbation: Perturbation
    first_cell: int
    rows: slice


@dataclass(frozen=True)
class Batch:
    """Inputs of a batch, (batch_size, n_genes) each; rows outside of its parts are padding, or not wanted."""

    values: NDArray[np.float32]
    pert_flags: NDArray[np.int64]
    parts: Sequence[Part]


class Schedule:
    """The (perturbation, control cell) pairs of a run, one perturbation after the other.

    Each has its number of `counts` control cells, from its number of `first_cells` on.
    """

    def __init__(self, perturbations: Sequence[Perturbation], counts: ArrayLike, first_cells: ArrayLike = 0) -> None:
        self.perturbations = tuple(perturbations)
        self.counts: NDArray[np.int64] = np.asarray(counts, dtype=np.int64)
        self.first_cells: NDArray[np.int64] = np.broadcast_to(np.asarray(first_cells, np.int64), self.counts.shape)
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(self.counts)])
        self.n_rows = int(self.starts[-1])

    def perturbation_at(self, row: int) -> int:
        """Return the index of the perturbation of a row; the number of perturbations for the row after the last."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def parts(self, row: int, end: int, begin: int) -> Iterator[Part]:
        """Yield the parts from `row` up to `end` of a batch that starts with the row `begin`."""
        while row < end:
            index = self.perturbation_at(row)
            stop = min(end, int(self.starts[index + 1]))
            first_cell = int(self.first_cells[index]) + row - int(self.starts[index])
            yield Part(index, self.perturbations[index], first_cell, slice(row - begin, stop - begin))
            row = stop


class MemoryBackoff:
    """Runs batches through sessions; once memory runs out in one, in halves, quarters and so on in all of them.

    Running out of memory is an error only if a single cell does not fit. `max_cells` fit at once; it is None if memory
    never ran out. Thread-safe.
    """

    def __init__(self) -> None:
        self.max_cells: int | None = None

    def run(
        self,
        session: Session,
        values: NDArray[np.float32],
        pert_flags: NDArray[np.int64],
        gene_index: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Predict one batch, in parts if necessary; see `Session.run`."""
        # Allocated first: an engine that fails keeps the memory that it took.
        predicted = np.empty(values.shape, dtype=np.float32)
        while True:
            size = min(self.max_cells or len(values), len(values))
            try:
                for begin in range(0, len(values), size):
                    part = slice(begin, begin + size)
                    predicted[part] = session.run(values[part], pert_flags[part], gene_index)
                return predicted
            except DeviceMemoryError:
                if size <= 1:
                    raise
                # If another thread overwrites this with more, memory runs out once more.
                self.max_cells = min(self.max_cells or size, -(-size // 2))


class BatchLoop:
    """Fills batches with control cells and flags, and runs them through a predictor's session.

    Batches have `batch_size` cells, or fewer if there are only `n_rows`. `read_cells` returns the control cells of a
    range, (n_cells, n_genes), and `cell_name` the name of one for messages.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        n_rows: int,
        batch_size: int,
        read_cells: Callable[[int, int], NDArray[np.float32]],
        cell_name: Callable[[int], str],
    ) -> None:
        self._session, self._panel, self._bundle = predictor.session, predictor.panel, predictor.bundle
        self._read_cells, self._cell_name = read_cells, cell_name
        self.n_devices = len(devices_of(self._session))
        self.batch_size = planned_size(n_rows, batch_size) if self._session.fixed_batches else min(batch_size, n_rows)

    def full_batches(self, schedule: Schedule, first_row: int = 0, end_row: int | None = None) -> Iterator[Batch]:
        """Fill batches with the rows of a schedule, across perturbations: all are full but the last.

        Which rows share a batch depends on schedule and batch size alone, so that a resumed run and one of some of the
        rows form the same batches; their parts are the rows from `first_row` up to `end_row`. Where every size costs
        the provider a new plan, the last one is padded.
        """
        size, end_row = self.batch_size, schedule.n_rows if end_row is None else end_row
        if first_row >= end_row:
            return
        for begin in range(first_row - first_row % size, end_row, size):
            end = min(begin + size, schedule.n_rows)
            shape = size if self._session.fixed_batches else end - begin, len(self._panel)
            values, flags = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
            for part in schedule.parts(begin, end, begin):
                n_cells = part.rows.stop - part.rows.start
                values[part.rows] = self._read_cells(part.first_cell, part.first_cell + n_cells)
                flags[part.rows, list(part.perturbation.columns)] = 1
            yield Batch(values, flags, list(schedule.parts(max(begin, first_row), min(end, end_row), begin)))

    def run(
        self, batches: Iterable[Batch | None], *, threaded: bool = True
    ) -> Generator[tuple[Batch, NDArray[np.float32]], None, None]:
        """Yield every batch with its predictions, in order; as many run at once as there are devices.

        `batches` are advanced while those before run; None says that the next one is not known before one of these has
        ended. The network runs in a thread per device, so that filling the next batch and handling the last one take no
        time; closing the generator waits for the batches that run. Raises `NonFinitePredictionError`.
        """
        predict, n_devices = partial(self._predict, MemoryBackoff()), self.n_devices
        at_most = 1 if n_devices == 1 else BATCHES_PER_DEVICE * n_devices
        waiting, running = iter(batches), deque[tuple[Batch, Callable[[], NDArray[np.float32]]]]()
        executor = ThreadPoolExecutor(n_devices, thread_name_prefix=THREAD_NAME)
        try:
            while (batch := next(waiting, None)) is not None or running:
                ended = None
                if batch is None or len(running) == at_most:
                    first, result = running.popleft()
                    ended = first, result()
                if batch is not None:
                    threads = threaded or n_devices > 1
                    running.append(
                        (batch, executor.submit(predict, batch).result if threads else partial(predict, batch))
                    )
                if ended is not None:
                    self._bundle.check_unchanged()
                    yield ended
        finally:
            executor.shutdown(cancel_futures=True)

    def _predict(self, backoff: MemoryBackoff, batch: Batch) -> NDArray[np.float32]:
        index = np.arange(len(self._panel), dtype=np.int64)
        with free_device(self._session) as session:
            predicted = backoff.run(session, batch.values, batch.pert_flags, index)[: batch.parts[-1].rows.stop]
        if not np.isfinite(np.sum(predicted, dtype=np.float64)):
            self._check_finite(batch, predicted)
        return predicted

    def _check_finite(self, batch: Batch, predicted: NDArray[np.float32]) -> None:
        for part in batch.parts:
            for row, gene in np.argwhere(~np.isfinite(predicted[part.rows])):
                cell, half = self._cell_name(part.first_cell + int(row)), self._session.precision == "fp16"
                raise NonFinitePredictionError(
                    f"the prediction of gene {self._panel.names[gene]} for cell {cell} under {part.perturbation.label} "
                    f"is {predicted[part.rows][row, gene]} ({self._session.provider}, {self._session.precision})",
                    "" if half else "Check the cells with `scgenept-rt check` and the bundle with `scgenept-rt verify`",
                    [UseOption("precision", "compute in a wider range", "fp32")] if half else [],
                )
