"""Batches ahead: the network runs in a thread of its own while the caller prepares the next batch and reads the last.

Preparing a batch, writing what came out and the network itself then take as long together as the slowest of them alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.predictor.memory_backoff import MemoryBackoff
from scgenept_rt.session import Session

_Batch = TypeVar("_Batch")

THREAD_NAME = "scgenept-rt-network"


class BatchBuffers:
    """Room for one batch: `values` float32 and `pert_flags` int64, each (batch_size, n_genes)."""

    def __init__(self, batch_size: int, n_genes: int) -> None:
        self.values = np.zeros((batch_size, n_genes), dtype=np.float32)
        self.pert_flags = np.zeros((batch_size, n_genes), dtype=np.int64)


class BatchPipeline:
    """Runs batches through a session, one after the other; a context manager.

    The caller fills `buffers`, starts the batch in them, and fills them again (they are others now) while it runs.
    Leaving the context waits for the batch that runs.
    """

    def __init__(self, session: Session, batch_size: int, n_genes: int) -> None:
        self._fixed_batches = session.fixed_batches
        self._backoff = MemoryBackoff(session)
        self._gene_index = np.arange(n_genes, dtype=np.int64)
        # Two, so that the one to fill is never the one that runs.
        self._buffers = deque(BatchBuffers(batch_size, n_genes) for _ in range(2))
        self._started: Future[NDArray[np.float32]] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=THREAD_NAME)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A batch cannot be called off. Waited for, so that nothing runs on when cells and session are let go.
        self._worker.shutdown(wait=True, cancel_futures=True)

    @property
    def buffers(self) -> BatchBuffers:
        """The buffers that no batch uses, to be filled from their first row on."""
        return self._buffers[0]

    def start(self, n_rows: int) -> None:
        """Run the first `n_rows` rows of `buffers`; one batch at a time.

        Where batches have one size, short ones are padded with empty cells.
        """
        if self._started is not None:
            raise RuntimeError("no other batch can be started: take a result first")
        filled = self._buffers[0]
        used = n_rows
        if self._fixed_batches:
            # Always the same padding: what a row gives may not depend on which batches came before.
            used = len(filled.values)
            filled.values[n_rows:] = 0
            filled.pert_flags[n_rows:] = 0
        self._buffers.rotate(-1)
        self._started = self._worker.submit(self._run, filled, used, n_rows)

    def result(self) -> NDArray[np.float32]:
        """Wait for the batch that was started and return its rows, a new array; raises what the session raised."""
        if self._started is None:
            raise RuntimeError("no batch was started")
        # Forgotten before it is waited for: nobody waits a second time after an interrupt.
        started, self._started = self._started, None
        return started.result()

    def run_all(self, filled: Iterable[tuple[_Batch, int]]) -> Iterator[tuple[_Batch, NDArray[np.float32]]]:
        """Yield every batch with its result, in order, while the next one runs.

        Parameters
        ----------
        filled
            Fills `buffers` whenever it is advanced, and gives what the batch is known by and its number of rows.
        """
        running: list[_Batch] = []
        for batch, n_rows in filled:
            ended = [(before, self.result()) for before in running]
            self.start(n_rows)
            running = [batch]
            yield from ended
        for batch in running:
            yield batch, self.result()

    def _run(self, buffers: BatchBuffers, used: int, n_rows: int) -> NDArray[np.float32]:
        return self._backoff.run(buffers.values[:used], buffers.pert_flags[:used], self._gene_index)[:n_rows]
