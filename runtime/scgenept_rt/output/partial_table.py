"""What tables on disk share: rows become safe by commits, and the file gets its name when it is complete."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import OutputError, PartialOutputError, UseOption, pluralize
from scgenept_rt.files.durable import move_durably
from scgenept_rt.output.journal import Journal, damaged
from scgenept_rt.output.row_writer import RowWriter
from scgenept_rt.output.table_spec import TableLayout, TableSpec
from scgenept_rt.output.work_directory import WorkDirectory

if TYPE_CHECKING:
    from anndata import AnnData

_READ_VALUES = 1 << 20


class PartialTable(RowWriter):
    """A `RowWriter` to a file, in a work directory that is locked.

    Parameters
    ----------
    command
        The command that continues the run, for messages.
    published
        Whether the file has its name already, and only the work directory is left to remove.
    """

    def __init__(
        self, work: WorkDirectory, layout: TableLayout, journal: Journal, command: str, *, published: bool = False
    ) -> None:
        super().__init__(layout, journal.n_committed)
        self.path = work.target
        self._work = work
        self._journal = journal
        self._command = command
        self._published = published

    @classmethod
    def create(cls, work: WorkDirectory, spec: TableSpec, settings: Mapping[str, Any], command: str) -> Self:
        """Begin a table in an empty work directory."""
        journal = Journal(spec.n_rows, 0, settings, spec.fingerprint(), {})
        with _failures_explained(work.target, journal, command):
            journal = dataclasses.replace(journal, storage=cls._lay_out(work.data, spec))
            journal.save(work.path)
        return cls(work, spec.layout, journal, command)

    @classmethod
    def resume(cls, work: WorkDirectory, spec: TableSpec, journal: Journal, command: str) -> Self:
        """Continue the table that the journal describes; raise `PartialOutputError` if its data are damaged."""
        try:
            table = cls(work, spec.layout, journal, command)
            table._load()
        except PartialOutputError:
            raise
        except (OSError, KeyError, TypeError, ValueError) as error:
            problem = f"{work.data.name} is missing or damaged ({error})"
            raise damaged(work.target, work.path, problem) from error
        return table

    # --- what each format implements ---

    @classmethod
    @abstractmethod
    def stored_entry(cls, path: Path, name: str) -> Any:
        """Read an entry of ``uns["scgenept_rt"]``; raises KeyError, or what its library does, if there is none."""

    @classmethod
    @abstractmethod
    def stored_layer(cls, path: Path, name: str) -> Iterator[NDArray[np.float32]]:
        """Yield a layer of a finished file, some rows at a time."""

    @classmethod
    @abstractmethod
    def _lay_out(cls, data: Path, spec: TableSpec) -> dict[str, Any]:
        """Write everything but the rows, durably, and return what `Journal.storage` holds."""

    @abstractmethod
    def _load(self) -> None:
        """Check what an earlier run left, and prepare to write at `n_committed`."""

    @abstractmethod
    def _sync(self) -> Mapping[str, Any]:
        """Make all rows written so far durable; return the storage entry for the journal."""

    @abstractmethod
    def _complete(self) -> None:
        """Write durably what is still missing once all rows are committed, then close all files."""

    def _seek(self, row: int) -> None:
        """Prepare to write at `row`, which was committed before."""

    def _committed(self) -> None:
        """Delete what only the journal before this one needed."""

    def _close_files(self) -> None:
        """Close all files."""

    # --- RowWriter ---

    @property
    def n_committed(self) -> int:
        """Number of rows that survive a kill of this process at any moment."""
        return self._journal.n_committed

    def write(
        self,
        X: NDArray[Any],
        layers: Mapping[str, NDArray[Any]] | None = None,
        n_controls: NDArray[Any] | None = None,
    ) -> None:
        """Append rows."""
        with self._failures_explained():
            super().write(X, layers, n_controls)

    def rewind(self, row: int) -> None:
        """Go back to `row`, at most `n_committed`.

        Rows from there on are not committed any more: a kill leaves no row that is half old and half new.
        """
        if self._published or not 0 <= row <= self.n_committed:
            state = "the table is finished" if self._published else f"{self.n_committed} rows are committed"
            raise ValueError(f"cannot rewind to row {row}: {state}")
        if row != self._n_written:
            with self._failures_explained():
                self._seek(row)
            self._n_written = row
            self.commit()

    def commit(self) -> None:
        """Make all rows written so far durable; returns once they are on disk."""
        if self._n_written != self.n_committed:
            with self._failures_explained():
                self._save_journal(n_committed=self._n_written, storage=self._sync())
                self._committed()

    def finish(self) -> Path:
        """Complete the file, give it its name, and remove the work directory."""
        self.publish()
        self._work.remove()
        return self.path

    def publish(self) -> None:
        """Complete the file and give it its name; the work directory stays until `finish`."""
        if self._published:
            return
        self._check_complete()
        self.commit()
        with self._failures_explained():
            self._complete()
            self._save_journal(finishing=True)
            if self.path.is_dir() and not self.path.is_symlink():
                # a directory that holds something cannot be replaced in one step; the journal covers a kill in between
                if self._work.replaced.exists():
                    shutil.rmtree(self._work.replaced)
                self.path.replace(self._work.replaced)
            move_durably(self._work.data, self.path)
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

    def _save_journal(self, **changes: Any) -> None:
        journal = dataclasses.replace(self._journal, **changes)
        journal.save(self._work.path)
        self._journal = journal

    def _failures_explained(self) -> contextlib.AbstractContextManager[None]:
        return _failures_explained(self.path, self._journal, self._command)


@contextlib.contextmanager
def _failures_explained(path: Path, journal: Journal, command: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = f"{journal.n_committed:,} of {pluralize(journal.n_rows, 'row')} kept"
        raise OutputError(
            f"writing failed ({reason(error)}); {kept}",
            f"Put that right, then continue with: {command}" if command else "Put that right",
            [] if command else [UseOption("resume", "continue", True)],
            where=path,
        ) from error


def finish_all(writers: Sequence[RowWriter]) -> list[Path | AnnData]:
    """Finish the tables of one run together.

    Every file gets its name before the first work directory is removed, so that a resumed run never finds that only
    some of the tables exist.
    """
    for writer in writers:
        if isinstance(writer, PartialTable):
            writer.publish()
    return [writer.finish() for writer in writers]


def read_rows(array: Any) -> Iterator[NDArray[np.float32]]:
    """Yield a matrix of an open file, a few rows at a time."""
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
