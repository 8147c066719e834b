"""What the tables on disk share: rows become safe by commits, and the file gets its name when it is complete."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import OutputWriteError, PartialDamagedError
from scgenept_rt.files.durable import sync_directory
from scgenept_rt.output.journal import Journal
from scgenept_rt.output.row_writer import RowWriter
from scgenept_rt.output.table_spec import Block, TableLayout, TableSpec
from scgenept_rt.output.work_directory import WorkDirectory

if TYPE_CHECKING:
    from anndata import AnnData


_READ_VALUES = 1 << 20


class PartialTable(ABC):
    """A `RowWriter` to a file; made by `create` or `resume`, in a work directory that is locked already."""

    def __init__(self, work: WorkDirectory, layout: TableLayout, journal: Journal, command: str) -> None:
        self.path = work.target
        self._work = work
        self._layout = layout
        self._journal = journal
        self._command = command
        self._n_written = journal.n_committed
        self._published = False

    @classmethod
    def create(cls, work: WorkDirectory, spec: TableSpec, settings: Mapping[str, Any], command: str) -> Self:
        """Begin a table in an empty work directory."""
        try:
            storage = cls._lay_out(work.data, spec)
            journal = Journal(spec.n_rows, 0, settings, spec.fingerprint(), storage)
            journal.save(work.path)
        except OSError as error:
            raise OutputWriteError(work.target, reason(error), 0, spec.n_rows, command) from error
        return cls(work, spec.layout, journal, command)

    @classmethod
    def resume(cls, work: WorkDirectory, spec: TableSpec, journal: Journal, command: str) -> Self:
        """Continue the table that the journal describes.

        Raises
        ------
        PartialDamagedError
            If its data are missing or too short.
        """
        try:
            table = cls(work, spec.layout, journal, command)
            table._load()
        except PartialDamagedError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise PartialDamagedError(
                work.target, work.path, f"{work.data.name} is missing or damaged ({error})"
            ) from (error)
        return table

    @classmethod
    def published(cls, work: WorkDirectory, spec: TableSpec, journal: Journal, command: str) -> Self:
        """Return the writer of a table that got its name in a run that was killed right after."""
        table = cls(work, spec.layout, journal, command)
        table._published = True
        return table

    # --- what a format has to say ---

    @classmethod
    @abstractmethod
    def stored_entry(cls, path: Path, name: str) -> Any:
        """Read an entry of ``uns["scgenept_rt"]``; raises KeyError, or what its library does, if there is none."""

    @classmethod
    @abstractmethod
    def stored_layer(cls, path: Path, name: str) -> Iterator[NDArray[np.float32]]:
        """Yield a layer of a finished file in blocks of rows."""

    @classmethod
    @abstractmethod
    def _lay_out(cls, data: Path, spec: TableSpec) -> dict[str, Any]:
        """Write everything but the rows, durably, and return what `Journal.storage` holds."""

    @abstractmethod
    def _load(self) -> None:
        """Check what an earlier run left and get ready to write at `n_committed`."""

    @abstractmethod
    def _put(self, row: int, block: Block) -> None:
        """Write a block at `row`."""

    @abstractmethod
    def _seek(self, row: int) -> None:
        """Get ready to write at `row`, which was committed before."""

    @abstractmethod
    def _sync(self) -> dict[str, Any]:
        """Make all rows written so far durable and return the storage entry of the journal that says so."""

    @abstractmethod
    def _committed(self) -> None:
        """Drop what only the journal that was just replaced needed."""

    @abstractmethod
    def _complete(self) -> None:
        """Write and sync what is still missing once all rows are committed, then close all files."""

    @abstractmethod
    def _close_files(self) -> None:
        """Close all files."""

    # --- RowWriter ---

    @property
    def n_rows(self) -> int:
        """Number of rows that the finished table has."""
        return self._layout.n_rows

    @property
    def n_written(self) -> int:
        """Number of rows written so far: the next block starts here."""
        return self._n_written

    @property
    def n_committed(self) -> int:
        """Number of rows that survive a kill of this process at any moment."""
        return self._journal.n_committed

    def rewind(self, row: int) -> None:
        """Go back to `row`, at most `n_committed`: rows from there on are to be written again.

        They count as not committed from now on, so that a kill among them leaves no row half old and half new.
        """
        if self._published or not 0 <= row <= self.n_committed:
            state = "the table is finished" if self._published else f"{self.n_committed} rows are committed"
            raise ValueError(f"cannot rewind to row {row}: {state}")
        if row == self._n_written:
            return
        with self._failures_explained():
            self._seek(row)
        self._n_written = row
        self.commit()

    def write(
        self,
        X: NDArray[Any],
        layers: Mapping[str, NDArray[Any]] | None = None,
        n_controls: NDArray[Any] | None = None,
    ) -> None:
        """Append a block of rows."""
        block = self._layout.block(self._n_written, X, layers, n_controls)
        if block.n_rows == 0:
            return
        with self._failures_explained():
            self._put(self._n_written, block)
        self._n_written += block.n_rows

    def commit(self) -> None:
        """Make all rows written so far durable; returns once they are on disk."""
        if self._n_written != self.n_committed:
            self._save_journal(finishing=False)

    def finish(self) -> Path:
        """Complete the file, give it its name, and remove the work directory."""
        self.publish()
        self._work.remove()
        return self.path

    def publish(self) -> None:
        """Complete the file and give it its name; the work directory stays until `finish`.

        Raises
        ------
        RuntimeError
            If rows are missing.
        """
        if self._published:
            return
        if self._n_written != self.n_rows:
            raise RuntimeError(f"only {self._n_written} of {self.n_rows} rows were written to {self.path}")
        self.commit()
        with self._failures_explained():
            self._complete()
        self._save_journal(finishing=True)
        with self._failures_explained():
            self._replace_target()
        self._published = True

    def close(self) -> None:
        """Stop; committed rows stay and can be continued. Without any, nothing is left behind."""
        self._close_files()
        if self.n_committed == 0 and not self._work.released:
            self._work.remove()
        self._work.release()

    def abort(self) -> None:
        """Stop and leave nothing behind."""
        self._close_files()
        if not self._work.released:
            self._work.remove()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the writer."""
        self.close()

    # --- the rest ---

    def _save_journal(self, *, finishing: bool) -> None:
        with self._failures_explained():
            storage = self._journal.storage if finishing else self._sync()
            journal = dataclasses.replace(
                self._journal, n_committed=self._n_written, storage=storage, finishing=finishing
            )
            journal.save(self._work.path)
            self._journal = journal
            self._committed()

    def _replace_target(self) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            # a directory that holds something cannot be replaced in one step; the journal covers a kill in between
            if self._work.replaced.exists():
                shutil.rmtree(self._work.replaced)
            self.path.replace(self._work.replaced)
        self._work.data.replace(self.path)
        sync_directory(self.path.parent)

    @contextlib.contextmanager
    def _failures_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputWriteError(self.path, reason(error), self.n_committed, self.n_rows, self._command) from error


def finish_all(writers: Sequence[RowWriter]) -> list[Path | AnnData]:
    """Finish the tables of one run together: no moment is left in which a resumed run finds only some of them.

    Every file gets its name before the first work directory is removed, so that a run that is killed in between can
    tell that it has nothing more to do.
    """
    for writer in writers:
        if isinstance(writer, PartialTable):
            writer.publish()
    return [writer.finish() for writer in writers]


def blocks_of_rows(array: Any) -> Iterator[NDArray[np.float32]]:
    """Yield a matrix in an open file in blocks that memory always has room for."""
    n_rows, n_vars = array.shape
    step = max(1, _READ_VALUES // n_vars)
    for begin in range(0, n_rows, step):
        yield np.asarray(array[begin : begin + step])


def reason(error: OSError) -> str:
    """Return what went wrong in a line."""
    return error.strerror or (str(error).splitlines() or [type(error).__name__])[0]


def write_fully(file: Any, offset: int, data: NDArray[Any]) -> None:
    """Write at an offset of an unbuffered file; one call to the system may write less than all."""
    view = np.ascontiguousarray(data).data.cast("B")
    file.seek(offset)
    while view:
        view = view[file.write(view) :]


def sync_data(file: Any) -> None:
    """Make the written bytes of a file durable."""
    getattr(os, "fdatasync", os.fsync)(file.fileno())
