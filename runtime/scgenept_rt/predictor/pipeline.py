"""Batches ahead: the network runs in a thread of its own while the caller prepares the next batch and reads the last.

Preparing a batch, writing what came out and the network itself then take as long together as the slowest of them alone.
Where a session copies ahead, a second batch is on the GPU already while one runs, and runs as soon as that has ended.
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
from scgenept_rt.providers.pinned_memory import PinnedMemory, whole_pages
from scgenept_rt.session import Session

_Batch = TypeVar("_Batch")

THREAD_NAME = "scgenept-rt-network"


class BatchBuffers:
    """Room for one batch: `values` float32 and `pert_flags` int64, each (batch_size, n_genes), both in `memory`."""

    def __init__(self, batch_size: int, n_genes: int) -> None:
        shape = (batch_size, n_genes)
        n_values, n_flags = (batch_size * n_genes * np.dtype(dtype).itemsize for dtype in (np.float32, np.int64))
        self.memory = whole_pages(n_flags + n_values)
        self.pert_flags = self.memory[:n_flags].view(np.int64).reshape(shape)
        self.values = self.memory[n_flags : n_flags + n_values].view(np.float32).reshape(shape)


class BatchPipeline:
    """Runs batches through a session, one after the other; a context manager.

    The caller fills `buffers`, starts the batch in them, and fills them again (they are others now) while it runs.
    Leaving the context drops what has not begun and waits for what has: one batch, two where the session copies ahead.
    """

    def __init__(self, session: Session, batch_size: int, n_genes: int) -> None:
        self._fixed_batches = session.fixed_batches
        self._backoff = MemoryBackoff(session)
        self._gene_index = np.arange(n_genes, dtype=np.int64)
        self._n_at_once = 2 if session.copies_ahead else 1
        # One more than may be started: the batch to fill is never one that has not ended.
        self._buffers = deque(BatchBuffers(batch_size, n_genes) for _ in range(self._n_at_once + 1))
        self._started: deque[Future[NDArray[np.float32]]] = deque()
        self._pinned = PinnedMemory(session.device_id, *(buffers.memory for buffers in self._buffers))
        self._workers = ThreadPoolExecutor(self._n_at_once, thread_name_prefix=THREAD_NAME)

    def __enter__(self) -> Self:
        self._pinned.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A batch cannot be called off. Waited for, so that nothing runs on when cells and session are let go.
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._pinned.__exit__(kind, error, trace)

    @property
    def buffers(self) -> BatchBuffers:
        """The buffers that no batch uses, to be filled from their first row on."""
        return self._buffers[0]

    def start(self, n_rows: int) -> None:
        """Run the first `n_rows` rows of `buffers`: one batch at a time, two where the session copies ahead.

        Where batches have one size, short ones are padded with empty cells.
        """
        if len(self._started) == self._n_at_once:
            raise RuntimeError("no other batch can be started: take a result first")
        filled = self._buffers[0]
        used = n_rows
        if self._fixed_batches:
            # Always the same padding: what a row gives may not depend on which batches came before.
            used = len(filled.values)
            filled.values[n_rows:] = 0
            filled.pert_flags[n_rows:] = 0
        self._buffers.rotate(-1)
        self._started.append(self._workers.submit(self._run, filled, used, n_rows))

    def result(self) -> NDArray[np.float32]:
        """Wait for the first batch in turn and return its rows, a new array; raises what the session raised."""
        if not self._started:
            raise RuntimeError("no batch was started")
        # Forgotten before it is waited for: nobody waits a second time after an interrupt.
        return self._started.popleft().result()

    def run_all(self, filled: Iterable[tuple[_Batch, int]]) -> Iterator[tuple[_Batch, NDArray[np.float32]]]:
        """Yield every batch with its result, in order, while the next ones run.

        Parameters
        ----------
        filled
            Fills `buffers` whenever it is advanced, and gives what the batch is known by and its number of rows.
        """
        batches: deque[_Batch] = deque()
        for batch, n_rows in filled:
            ended = (batches.popleft(), self.result()) if len(batches) == self._n_at_once else None
            self.start(n_rows)
            batches.append(batch)
            if ended is not None:
                yield ended
        while batches:
            yield batches.popleft(), self.result()

    def _run(self, buffers: BatchBuffers, used: int, n_rows: int) -> NDArray[np.float32]:
        return self._backoff.run(buffers.values[:used], buffers.pert_flags[:used], self._gene_index)[:n_rows]
