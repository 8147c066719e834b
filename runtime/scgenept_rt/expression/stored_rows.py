"""Rows over genes, held sparse, in memory or in a temporary file."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.files.failures import failed_writes

SPILL_BYTES = 64 * 2**20
_VALUES_PER_STEP = 1 << 20
_STORED = np.dtype([("gene", np.int32), ("value", np.float32)])


@dataclass(eq=False)
class StoredRows:
    """Rows over genes, dense on demand; zeros are not stored. Reading is safe from several threads.

    Above a size they lie in a temporary file, and only the rows asked for are read, so that the memory in use does
    not grow with their number.
    """

    order: NDArray[np.int64]  # the stored row of each cell; a row may occur twice
    n_genes: int
    expressed: NDArray[np.bool_]  # [n_genes]: which genes have values
    digest: bytes  # sha256 of the stored rows
    _indptr: NDArray[np.int64]
    _stored: NDArray[Any] | IO[bytes] | None

    def close(self) -> None:
        """Drop the values."""
        stored, self._stored = self._stored, None
        if stored is not None and not isinstance(stored, np.ndarray):
            stored.close()

    def dense(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return cells `start` up to `stop` as float32 [stop - start, n_genes]."""
        return self.gather(np.arange(start, stop))

    def gather(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Return the cells at `indices` (from 0 to n_obs - 1, repeats allowed) as `dense` does."""
        rows = self.order[np.asarray(indices, dtype=np.int64)]
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        stored = np.concatenate([self._read(0, 0), *(self._read(run[0], run[-1] + 1) for run in runs)])
        out = np.zeros((len(rows), self.n_genes), dtype=np.float32)
        lengths = self._indptr[rows + 1] - self._indptr[rows]
        out[np.repeat(np.arange(len(rows)), lengths), stored["gene"]] = stored["value"]
        return out

    def totals(self, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Return how many of the cells express a gene, and the sums of values and squares, as float64 [3, n_genes]."""
        times = np.bincount(self.order[start:stop], minlength=len(self._indptr) - 1).astype(np.float64)
        totals = np.zeros((3, self.n_genes), dtype=np.float64)
        for first, end in self._steps():
            stored = self._read(first, end)
            weights = np.repeat(times[first:end], np.diff(self._indptr[first : end + 1]))
            values = stored["value"].astype(np.float64)
            for power, total in enumerate(totals):
                total += np.bincount(stored["gene"], weights=weights * values**power, minlength=self.n_genes)
        return totals

    def _steps(self) -> Iterator[tuple[int, int]]:
        """Yield row ranges of bounded size that cover all stored rows; fixed, so that sums are reproducible."""
        first, n_stored = 0, len(self._indptr) - 1
        while first < n_stored:
            end = int(np.searchsorted(self._indptr, self._indptr[first] + _VALUES_PER_STEP, side="right")) - 1
            end = min(max(end, first + 1), n_stored)
            yield first, end
            first = end

    def _read(self, first: int, end: int) -> NDArray[Any]:
        """Return genes and values of the stored rows from `first` up to `end`."""
        begin, stop = int(self._indptr[first]), int(self._indptr[end])
        if self._stored is None:
            raise ValueError("these control cells were closed")
        if isinstance(self._stored, np.ndarray):
            return self._stored[begin:stop]
        if begin == stop:  # an empty range cannot be mapped
            return np.empty(0, _STORED)
        place: dict[str, Any] = {"offset": begin * _STORED.itemsize, "shape": (stop - begin,)}
        return np.memmap(self._stored, dtype=_STORED, mode="r", **place)


def store_rows(batches: Iterable[Any], order: NDArray[np.int64], n_genes: int) -> StoredRows:
    """Keep the rows of canonical `csr_array` batches (sorted columns, no stored zeros), as `StoredRows` says."""
    lengths: list[NDArray[Any]] = [np.zeros(1, np.int64)]
    kept: list[NDArray[Any]] = [np.empty(0, _STORED)]
    n_bytes, file = 0, None
    expressed = np.zeros(n_genes, dtype=np.bool_)
    # Genes and values are digested apart, so that the size of batches leaves no trace.
    of_genes, of_values = hashlib.sha256(), hashlib.sha256()
    try:
        for batch in batches:
            stored = np.empty(batch.nnz, _STORED)
            stored["gene"], stored["value"] = batch.indices, batch.data
            of_genes.update(np.ascontiguousarray(stored["gene"]).data)
            of_values.update(np.ascontiguousarray(stored["value"]).data)
            lengths.append(np.diff(batch.indptr))
            expressed[batch.indices] = True
            kept.append(stored)
            n_bytes += stored.nbytes
            if n_bytes > SPILL_BYTES:
                remedy = "Free space, or set the environment variable TMPDIR to a directory with more"
                with failed_writes(tempfile.gettempdir(), "control cells cannot be kept in temporary files", remedy):
                    # It has no name to leave behind: it is gone when it is closed or the process ends.
                    file = file or tempfile.TemporaryFile()  # noqa: SIM115
                    for stored in kept:
                        file.write(stored.data)
                    file.flush()
                kept.clear()
    except BaseException:
        if file is not None:
            with suppress(OSError):  # as when what could not be written is tried again
                file.close()
        raise
    indptr = np.cumsum(np.concatenate(lengths), dtype=np.int64)
    digest = hashlib.sha256(indptr.tobytes() + of_genes.digest() + of_values.digest()).digest()
    return StoredRows(order, n_genes, expressed, digest, indptr, file or np.concatenate(kept))
