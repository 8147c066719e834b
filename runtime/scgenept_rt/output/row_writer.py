"""The one way in which predictions leave the predictor: rows, in order, in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from numpy.typing import NDArray

if TYPE_CHECKING:
    from anndata import AnnData


class RowWriter(Protocol):
    """A table that is being filled, row by row.

    As a context manager it closes itself: what was committed stays and can be continued.
    """

    @property
    def n_rows(self) -> int:
        """Number of rows that the finished table has."""

    @property
    def n_written(self) -> int:
        """Number of rows written so far: the next block starts here."""

    @property
    def n_committed(self) -> int:
        """Number of rows that survive the end of this process at any moment."""

    def rewind(self, row: int) -> None:
        """Go back to `row`, at most `n_committed`: rows from there on are to be written again.

        A table with all rows committed may be finished on disk already: call `finish` alone then.
        """

    def write(
        self,
        X: NDArray[Any],
        layers: Mapping[str, NDArray[Any]] | None = None,
        n_controls: NDArray[Any] | None = None,
    ) -> None:
        """Append a block of rows.

        Parameters
        ----------
        X
            Predicted expression, shape (rows, n_genes), float32, log1p scale.
        layers
            One array of the same shape for each layer of the table.
        n_controls
            Control cells used for each row, shape (rows,), where that became known only now.
        """

    def commit(self) -> None:
        """Make all rows written so far durable."""

    def finish(self) -> Path | AnnData:
        """Complete the table; every row must be written. Returns the file's path, or the table itself."""

    def close(self) -> None:
        """Stop; committed rows stay and can be continued. Without any, nothing is left behind."""

    def abort(self) -> None:
        """Stop and leave nothing behind."""

    def __enter__(self) -> Self:
        """Return the writer."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the writer."""
