"""The control cells of a run, held sparse, in memory or in a temporary file."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import OutputError
from scgenept_rt.expression.groups import Groups
from scgenept_rt.expression.input_annotation import InputAnnotation
from scgenept_rt.genes import GeneMatch

SPILL_BYTES = 64 * 2**20
_VALUES_PER_STEP = 1 << 20


class CsrRows:
    """Rows of float32 values with int32 columns; above a size they lie in temporary files, gone when these close.

    Reading maps only the rows asked for, so that the memory in use does not grow with the number of rows, and is
    safe from several threads.
    """

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32] | IO[bytes],
        data: NDArray[np.float32] | IO[bytes],
        digest: bytes,
    ) -> None:
        self.indptr = indptr
        self.digest = digest
        self._indices = indices
        self._data = data

    @property
    def spilled(self) -> bool:
        """True if the values lie in temporary files."""
        return not isinstance(self._data, np.ndarray)

    def window(self, first_row: int, end_row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return columns and values of the rows from `first_row` up to `end_row`."""
        begin, end = int(self.indptr[first_row]), int(self.indptr[end_row])
        return _part(self._indices, np.int32, begin, end), _part(self._data, np.float32, begin, end)

    def take(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Return the numbers of values of rows in any order, and their columns and values."""
        begins = self.indptr[rows]
        lengths = self.indptr[rows + 1] - begins
        if isinstance(self._indices, np.ndarray) and isinstance(self._data, np.ndarray):
            at = np.arange(lengths.sum()) + np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
            return lengths, self._indices[at], self._data[at]
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        windows = [self.window(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]
        columns, values = zip(self.window(0, 0), *windows, strict=True)
        return lengths, np.concatenate(columns), np.concatenate(values)

    def close(self) -> None:
        """Drop the values; a temporary file goes with them."""
        for held in (self._indices, self._data):
            if not isinstance(held, np.ndarray):
                held.close()
        self._indices = np.empty(0, np.int32)
        self._data = np.empty(0, np.float32)


def _part(held: Any, dtype: type[np.generic], begin: int, end: int) -> NDArray[Any]:
    if isinstance(held, np.ndarray):
        return held[begin:end]
    if begin == end:  # an empty range cannot be mapped
        return np.empty(0, dtype)
    itemsize = np.dtype(dtype).itemsize
    return np.memmap(held, dtype=dtype, mode="r", offset=begin * itemsize, shape=(end - begin,))


class CsrRowsWriter:
    """Collects rows in batches and moves them to temporary files once they pass `spill_bytes`."""

    def __init__(self, spill_bytes: int = SPILL_BYTES) -> None:
        self._spill_bytes = spill_bytes
        self._lengths: list[NDArray[np.int64]] = []
        self._indices: list[NDArray[np.int32]] = []
        self._data: list[NDArray[np.float32]] = []
        self._bytes = 0
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        # Columns and values are digested apart, so that the size of batches leaves no trace.
        self._indices_digest = hashlib.sha256()
        self._data_digest = hashlib.sha256()

    def append(self, batch: Any) -> None:
        """Add the rows of a canonical `csr_array` (sorted columns, no stored zeros)."""
        indices = np.ascontiguousarray(batch.indices, dtype=np.int32)
        data = np.ascontiguousarray(batch.data, dtype=np.float32)
        self._indices_digest.update(indices.data)
        self._data_digest.update(data.data)
        self._lengths.append(np.diff(batch.indptr).astype(np.int64))
        self._indices.append(indices)
        self._data.append(data)
        self._bytes += indices.nbytes + data.nbytes
        if self._files is not None or self._bytes > self._spill_bytes:
            try:
                self._spill()
            except OSError as error:
                problem = f"control cells cannot be kept in temporary files ({error.strerror})"
                remedy = "Free space, or set the environment variable TMPDIR to a directory with more"
                raise OutputError(problem, remedy, where=tempfile.gettempdir()) from error

    def finish(self) -> CsrRows:
        """Return all rows."""
        lengths = np.concatenate([np.zeros(1, np.int64), *self._lengths])
        indptr = np.cumsum(lengths, dtype=np.int64)
        digest = hashlib.sha256(indptr.tobytes())
        digest.update(self._indices_digest.digest() + self._data_digest.digest())
        if self._files is None:
            indices = np.concatenate([np.empty(0, np.int32), *self._indices])
            self._indices.clear()
            data = np.concatenate([np.empty(0, np.float32), *self._data])
            self._data.clear()
            return CsrRows(indptr, indices, data, digest.digest())
        return CsrRows(indptr, *self._files, digest.digest())

    def discard(self) -> None:
        """Drop everything, after an error."""
        for file in self._files or ():
            with suppress(OSError):  # as when what could not be written is tried again
                file.close()

    def _spill(self) -> None:
        if self._files is None:
            # A TemporaryFile has no name to leave behind: it is gone when it is closed or the process ends.
            self._files = (tempfile.TemporaryFile(), tempfile.TemporaryFile())  # noqa: SIM115
        indices_file, data_file = self._files
        for indices in self._indices:
            indices_file.write(indices.data)
        for data in self._data:
            data_file.write(data.data)
        for file in self._files:
            file.flush()
        self._indices.clear()
        self._data.clear()


class OrderedRows:
    """Rows over genes, dense on demand, in an order in which a row may occur twice; zeros are not stored.

    Parameters
    ----------
    order
        The stored row of each cell; None if they are stored in order.
    """

    def __init__(self, rows: CsrRows, order: NDArray[np.int64] | None, n_genes: int) -> None:
        self._rows = rows
        self._order = order
        self.n_genes = n_genes
        self._closed = False

    @property
    def spilled(self) -> bool:
        """True if the values lie in a temporary file."""
        return self._rows.spilled

    @property
    def digest(self) -> bytes:
        """sha256 of the stored rows."""
        return self._rows.digest

    def close(self) -> None:
        """Drop the values; reading them afterwards raises ValueError."""
        self._closed = True
        self._rows.close()

    def dense(self, start: int, stop: int, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return cells `start` up to `stop` as float32 [stop - start, n_genes], C-contiguous.

        Parameters
        ----------
        start, stop
            Range of cells, 0 <= start <= stop <= n_obs.
        out
            Array of that shape and dtype to write into and return.

        Raises
        ------
        ValueError
            If the cells were closed.
        """
        return self._gathered(np.arange(start, stop) if self._order is None else self._order[start:stop], out)

    def gather(
        self, indices: Sequence[int] | NDArray[np.integer[Any]], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the cells at `indices` (from 0 to n_obs - 1, repeats allowed) as `dense` does."""
        cells = np.asarray(indices, dtype=np.int64)
        return self._gathered(cells if self._order is None else self._order[cells], out)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("these control cells were closed")

    def _gathered(self, stored: NDArray[np.int64], out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Return stored rows in any order."""
        self._check_open()
        if out is None:
            out = np.empty((len(stored), self.n_genes), dtype=np.float32)
        out.fill(0.0)
        lengths, columns, values = self._rows.take(stored)
        out[np.repeat(np.arange(len(stored)), lengths), columns] = values
        return out


class ControlCells(OrderedRows):
    """Log-normalised expression of the control cells of a run, in model gene order; zeros are not stored.

    A context manager: leaving it drops the values and their temporary file, if there is one (so does garbage
    collection). Reading is safe from several threads.

    Attributes
    ----------
    n_obs
        How many cells the run uses, counting a cell drawn twice as two.
    n_genes
        How many genes the model has.
    obs_names
        Names of the cells, in the order of the rows; str objects [n_obs].
    n_available
        How many control cells the input holds.
    groups
        The groups of the cells; a single one without a name, unless they were asked for.
    mixed
        Without groups, the notice that the cells are of several types, donors or batches.
    match
        Which columns of the input hold the model's genes.
    condition_key, control_label
        The obs column and label that mark control cells; None if all rows were taken.
    notices
        What users should know.
    annotation
        Names and annotation of the input.
    others
        Values of all genes of the input but the model's, in the input's columns; None if they were not asked for.
    fingerprint
        sha256 of values, order and names: equal for equal control cells, whatever the layout of the input.
    """

    def __init__(
        self,
        rows: CsrRows,
        *,
        order: NDArray[np.int64] | None,
        obs_names: NDArray[np.object_],
        n_available: int,
        groups: Groups,
        mixed: Sequence[str],
        match: GeneMatch,
        condition_key: str | None,
        control_label: str | None,
        notices: Sequence[str],
        annotation: InputAnnotation,
        others: OrderedRows | None = None,
    ) -> None:
        super().__init__(rows, order, len(match.columns))
        self.n_obs = len(obs_names)
        self.obs_names = obs_names
        self.n_available = n_available
        self.groups = groups
        self.mixed = mixed
        self.match = match
        self.condition_key = condition_key
        self.control_label = control_label
        self.notices = list(notices)
        self.annotation = annotation
        self.others = others
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return self.n_obs

    def __enter__(self) -> ControlCells:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the values; reading them afterwards raises ValueError."""
        super().close()
        if self.others is not None:
            self.others.close()

    def over_input(self, first: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rows for the cells from `first` on over all genes of the input, where the model has none: own values.

        Parameters
        ----------
        rows
            (n_cells, n_genes), in model gene order.
        """
        assert self.others is not None, "these were asked for"
        complete = self.others.dense(first, first + len(rows))
        found = self.match.columns >= 0
        complete[:, self.match.columns[found]] = rows[:, found]
        return complete

    def totals(self, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Return, of the cells `start` up to `stop`, how many express a gene, and the sums of values and squares.

        Returns
        -------
        ndarray
            float64 [3, n_genes].

        Raises
        ------
        ValueError
            If the cells were closed.
        """
        self._check_open()
        n_stored = len(self._rows.indptr) - 1
        order = np.arange(self.n_obs) if self._order is None else self._order
        times = np.bincount(order[start:stop], minlength=n_stored).astype(np.float64)
        totals = np.zeros((3, self.n_genes), dtype=np.float64)
        for first, end in self._steps(n_stored):
            columns, values = self._rows.window(first, end)
            weights = np.repeat(times[first:end], np.diff(self._rows.indptr[first : end + 1]))
            for power, total in enumerate(totals):
                total += np.bincount(
                    columns, weights=weights * values.astype(np.float64) ** power, minlength=self.n_genes
                )
        return totals

    def _steps(self, n_stored: int) -> list[tuple[int, int]]:
        """Return row ranges of bounded size that cover all stored rows; fixed, so that sums are reproducible."""
        indptr = self._rows.indptr
        steps, first = [], 0
        while first < n_stored:
            end = int(np.searchsorted(indptr, indptr[first] + _VALUES_PER_STEP, side="right")) - 1
            end = min(max(end, first + 1), n_stored)
            steps.append((first, end))
            first = end
        return steps

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.digest)
        if self.others is not None:
            digest.update(self.others.digest)
        digest.update(str(self.n_genes).encode())
        # The order and not the stored row counts: an identity order is the same as none.
        order = np.arange(self.n_obs, dtype=np.int64) if self._order is None else self._order
        digest.update(order.tobytes())
        digest.update(json.dumps(self.obs_names.tolist()).encode())
        return digest.hexdigest()
