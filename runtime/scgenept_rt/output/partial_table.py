"""What tables on disk share: rows become safe by commits, and the file gets its name when it is complete."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import OutputError, OutputExistsError, UseOption
from scgenept_rt.files.durable import move_durably, write_durably
from scgenept_rt.files.failures import failed_reads, failed_writes
from scgenept_rt.output.checksums import Checksums
from scgenept_rt.output.journal import Damage, Journal
from scgenept_rt.output.row_writer import RowWriter
from scgenept_rt.output.table_spec import TableSpec
from scgenept_rt.output.work_directory import CHECKSUMS_NAME, WorkDirectory
from scgenept_rt.wording import pluralize, reason

if TYPE_CHECKING:
    from anndata import AnnData

_READ_VALUES = 1 << 20


class PartialTable(RowWriter):
    """A `RowWriter` to a file, in a work directory that is locked.

    Parameters
    ----------
    command
        The command that continues the run, for messages.
    overwrite
        Whether the file may replace another that has its name.
    published
        Whether the file has its name already, and only the work directory is left to remove.
    """

    def __init__(
        self,
        work: WorkDirectory,
        spec: TableSpec,
        journal: Journal,
        command: str,
        *,
        overwrite: bool = False,
        published: bool = False,
    ) -> None:
        super().__init__(spec)
        self.path = work.target
        self._work = work
        self._journal = journal
        self._command = command
        self._overwrite = overwrite
        self._published = published
        self._checksums = Checksums(work.path / CHECKSUMS_NAME)
        self._n_committed = self._n_written = spec.n_rows if published else self._stored_rows(len(self._checksums))

    @classmethod
    def create(
        cls, work: WorkDirectory, spec: TableSpec, settings: Mapping[str, Any], command: str, *, overwrite: bool
    ) -> Self:
        """Begin a table in an empty work directory."""
        with _failures_explained(work.target, 0, spec.n_rows, command):
            try:
                storage = cls._lay_out(work.data, spec)
            except (TypeError, ValueError) as error:  # a name or value that its library cannot write
                problem = f"an annotation of the cells cannot be stored ({reason(error)})"
                remedy = "Rename it in the cells, or predict means"
                raise OutputError(problem, remedy, where=work.target) from error
            journal = Journal(spec.n_rows, settings, spec.fingerprint(), storage)
            table = cls(work, spec, journal, command, overwrite=overwrite)
            storage["fixed"] = table._checksum_of_fixed()
            write_durably(work.path / CHECKSUMS_NAME, b"")
            journal.save(work.path)
        return table

    def load(self) -> int:
        """Check what an earlier run left, go back to the last row before any damage, and return the rows lost by it.

        Raises
        ------
        Damage
            If more than rows is damaged.
        """
        with failed_reads(Damage, "", self._work.data.name, ""):
            fixed = self._checksum_of_fixed()
            stored = self._checksums.read()[: self.n_rows // self._piece_rows]
        if fixed != self._journal.storage["fixed"]:
            raise Damage(f"{self._work.data.name} is damaged")
        n_before = self._n_committed
        n_sound = next((piece for piece, checksum in enumerate(stored) if self._damaged(piece, checksum)), len(stored))
        self._checksums.truncate(n_sound)
        self._n_committed = self._n_written = self._stored_rows(n_sound)
        return n_before - self._n_committed

    # --- what each format implements ---

    @classmethod
    @abstractmethod
    def _lay_out(cls, data: Path, spec: TableSpec) -> dict[str, Any]:
        """Write everything but the rows, durably, and return what `Journal.storage` holds."""

    @abstractmethod
    def _checksum_of_fixed(self) -> int:
        """Return the checksum of everything but the rows."""

    @abstractmethod
    def _checksum(self, piece: int) -> int:
        """Return the checksum of a piece, read from the disk."""

    @abstractmethod
    def _sync(self) -> None:
        """Make all rows written so far durable, as far as they fill a piece."""

    @abstractmethod
    def _complete(self) -> None:
        """Write durably what is still missing once all rows are committed, then close all files."""

    def _stored_rows(self, n_pieces: int) -> int:
        """Return the rows that are safe with so many pieces."""
        return min(n_pieces * self._piece_rows, self.n_rows)

    def _seek(self, row: int) -> None:
        """Prepare to write at `row`, which was committed before."""

    def _save_waiting(self) -> None:
        """Make the rows durable that do not fill a piece."""

    def _close_files(self) -> None:
        """Close all files."""

    # --- RowWriter ---

    @property
    def n_committed(self) -> int:
        """Number of rows that survive a kill of this process at any moment."""
        return self._n_committed

    @property
    def _piece_rows(self) -> int:
        return int(self._journal.storage["piece_rows"])

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
        if self._n_written == self.n_committed:
            return
        with self._failures_explained():
            self._sync()
            n_pieces = self._n_written // self._piece_rows
            # In this order a kill in between leaves what was committed before, or what is now.
            self._checksums.append(self._checksum(piece) for piece in range(len(self._checksums), n_pieces))
            self._save_waiting()
            self._checksums.truncate(n_pieces)
        self._n_committed = self._n_written

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
            if self._overwrite and self.path.is_dir() and not self.path.is_symlink():
                # a directory that holds something cannot be replaced in one step; the journal covers a kill in between
                if self._work.replaced.exists():
                    shutil.rmtree(self._work.replaced)
                self.path.replace(self._work.replaced)
            try:
                move_durably(self._work.data, self.path, replace=self._overwrite)
            except FileExistsError:
                problem = f"another file took this name after the run began; its result is kept in {self._work.path}"
                replace = UseOption("overwrite", "replace it, together with the option that resumes", True)
                raise OutputExistsError(
                    problem, "Move that away and resume this run", [replace], where=self.path
                ) from None
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

    def _damaged(self, piece: int, checksum: int) -> bool:
        try:
            return self._checksum(piece) != checksum
        except OSError:
            return True

    def _failures_explained(self) -> AbstractContextManager[None]:
        return _failures_explained(self.path, self.n_committed, self.n_rows, self._command)


def _failures_explained(path: Path, n_committed: int, n_rows: int, command: str) -> AbstractContextManager[None]:
    problem = f"writing failed, with {n_committed:,} of {pluralize(n_rows, 'row')} kept"
    if command:
        return failed_writes(path, problem, f"Fix this, then continue with: {command}")
    return failed_writes(path, problem, "Fix this", [UseOption("resume", "continue", True)])


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


def write_fully(file: Any, offset: int, data: NDArray[Any]) -> None:
    """Write at an offset of an unbuffered file; one call to the system may write less than all."""
    view = np.ascontiguousarray(data).data.cast("B")
    file.seek(offset)
    while view:
        view = view[file.write(view) :]
