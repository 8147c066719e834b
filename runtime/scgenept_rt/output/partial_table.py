"""Tables on disk: rows become safe by commits, and the file gets its name when it is complete."""

from __future__ import annotations

import os
import shutil
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from io import FileIO
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import OutputError, OutputExistsError, UseOption
from scgenept_rt.files.durable import move_durably, sync_data, sync_directory, write_durably
from scgenept_rt.files.failures import failed_reads, failed_writes
from scgenept_rt.output.layouts import Place, lay_out
from scgenept_rt.output.table_spec import TableSpec
from scgenept_rt.output.work_directory import CHECKSUMS_NAME, Damage, Journal, WorkDirectory, partial_path
from scgenept_rt.wording import pluralize, reason

_CHECKSUM = np.dtype("<u4")
_READ_BYTES = 1 << 20
_MOST_FILES = 100


class PartialTable:
    """A table in a file that is filled row by row, in order, in a work directory that is locked.

    Of its `n_rows`, `n_written` are written so far, and `n_committed` survive the end of this process at any moment:
    their checksums, in order, are a file of their own. `begin` or `load` comes first. Of a table that is `published`,
    only the work directory is left to remove. As a context manager it closes itself.
    """

    def __init__(
        self, work: WorkDirectory, spec: TableSpec, command: str, *, overwrite: bool, published: bool = False
    ) -> None:
        self.path, self.spec, self.n_rows = work.target, spec, spec.n_rows
        self.n_written = self.n_committed = self.n_rows if published else 0
        self._work, self._command, self._overwrite, self._published = work, command, overwrite, published
        self._places: dict[str, Place] = {}
        self._files: dict[str, FileIO] = {}

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Begin the table in its work directory, which is empty."""
        with self._failures_explained():
            try:
                self._places = lay_out(self._work.data, self.spec)
            except (TypeError, ValueError) as error:  # a name or value that its library cannot write
                problem = f"an annotation of the cells cannot be stored ({reason(error)})"
                remedy = "Rename it in the cells, or predict means"
                raise OutputError(problem, remedy, where=self.path) from error
            checksum = _checksum_of_fixed(self._work, self._places, self.n_rows)
            write_durably(self._work.path / CHECKSUMS_NAME, b"")
            Journal(settings, self.spec.fingerprint(), self._places, checksum).save(self._work.path)

    def load(self, journal: Journal) -> int:
        """Check what an earlier run left, go back to the last row before any damage, and return the rows lost by it.

        Raises `Damage` if more than rows is damaged.
        """
        self._places = {name: Place(*place) for name, place in journal.places.items()}
        n_before = min(count_committed(self.path), self.n_rows)
        with failed_reads(Damage, "", self._work.data.name, ""):
            if _checksum_of_fixed(self._work, self._places, self.n_rows) != journal.checksum:
                raise Damage(f"{self._work.data.name} is damaged")
            stored = np.fromfile(self._work.path / CHECKSUMS_NAME, _CHECKSUM, n_before)
            found = (self._checksum(row) for row in range(n_before))
            sound = next((row for row, (a, b) in enumerate(zip(stored, found, strict=True)) if a != b), n_before)
            self._set_committed(sound)
        self.n_written = sound
        return n_before - sound

    def write(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Append rows, by the names of `TableSpec.arrays`; ValueError if they do not fit."""
        row, n_rows = self.n_written, len(arrays["X"])
        if row + n_rows > self.n_rows:
            raise ValueError(f"rows {row} to {row + n_rows} do not fit in a table of {self.n_rows} rows")
        with self._failures_explained():
            for name, dtype in self.spec.arrays.items():
                array = np.ascontiguousarray(arrays[name], dtype.base)
                if array.shape != (n_rows, *dtype.shape):
                    raise ValueError(f"{name} has shape {array.shape}, expected {(n_rows, *dtype.shape)}")
                if name == "X" and self.spec.clip_at_zero:
                    array = np.maximum(array, np.float32(0))
                for begin, end, path, offset in self._places[name].spans(row, row + n_rows):
                    _write_fully(self._open(self._places[name], path), offset, array[begin - row : end - row])
        self.n_written += n_rows

    def rewind(self, row: int) -> None:
        """Go back to `row`, at most `n_committed`, to write the rows from there on again.

        They are not committed any more: a kill leaves no row that is half old and half new.
        """
        if self._published or not 0 <= row <= self.n_committed:
            raise ValueError(f"cannot rewind to row {row}: {self.n_committed} rows are committed")
        self.n_written = row
        self.commit()

    def commit(self) -> None:
        """Commit the rows written so far, and wait until they are on disk."""
        if self.n_written == self.n_committed:
            return
        with self._failures_explained():
            self._sync()
            n_kept = min(self.n_committed, self.n_written)
            self._set_committed(n_kept, map(self._checksum, range(n_kept, self.n_written)))
            self._close_files()

    def finish(self) -> Path:
        """Complete the file, give it its name, and remove the work directory."""
        self.publish()
        self._work.remove()
        return self.path

    def publish(self) -> None:
        """Complete the file and give it its name; the work directory stays until `finish`."""
        if self._published:
            return
        if self.n_written != self.n_rows:
            raise RuntimeError(f"only {self.n_written} of {self.n_rows} rows were written")
        self.commit()
        with self._failures_explained():
            self._fill_last_chunks()
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
        if self.n_committed == 0:
            self._work.remove()
        self._work.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def abort(self) -> None:
        """Stop and leave nothing behind."""
        self._close_files()
        self._work.remove()

    def _open(self, place: Place, path: str) -> FileIO:
        if path not in self._files:
            if len(self._files) == _MOST_FILES:
                self._sync()
            # a chunk of a zarr store is made when its first row is written
            descriptor = os.open(self._work.path / path, os.O_RDWR | os.O_CREAT, 0o666)
            self._files[path] = file = FileIO(descriptor, "r+")
            if os.fstat(descriptor).st_size < place.file_bytes:
                file.truncate(place.file_bytes)
        return self._files[path]

    def _sync(self) -> None:
        """Make what was written durable, and close the files."""
        for file in self._files.values():
            sync_data(file)
        for directory in {(self._work.path / path).parent for path in self._files}:
            sync_directory(directory)
        self._close_files()

    def _fill_last_chunks(self) -> None:
        """Let the last chunks of a zarr store end in zeros."""
        for place in self._places.values():
            *_, (begin, end, path, offset) = place.spans(0, self.n_rows)
            if self.n_rows % place.file_rows:
                file = self._open(place, path)
                file.truncate(offset + (end - begin) * place.row_bytes)
                file.truncate(place.file_bytes)
        self._sync()

    def _close_files(self) -> None:
        with ExitStack() as stack:
            for file in self._files.values():
                stack.callback(file.close)
            # Let go first: a close that fails must not be followed by one of a number that is another file's by then.
            self._files = {}

    def _checksum(self, row: int) -> int:
        """Return the checksum of a row, read from the disk."""
        checksum = row
        for place in self._places.values():
            for _, _, path, offset in place.spans(row, row + 1):
                file = self._open(place, path)
                file.seek(offset)
                checksum = _checksum_of_file(file, place.row_bytes, checksum)
        return checksum

    def _set_committed(self, n_kept: int, checksums: Iterable[int] = ()) -> None:
        """Forget the checksums after the first `n_kept`, and append those of the next rows, which are on disk."""
        added = np.fromiter(checksums, _CHECKSUM)
        with (self._work.path / CHECKSUMS_NAME).open("r+b", buffering=0) as file:
            file.truncate(n_kept * _CHECKSUM.itemsize)
            _write_fully(file, n_kept * _CHECKSUM.itemsize, added)
            sync_data(file)
        self.n_committed = n_kept + len(added)

    def _failures_explained(self) -> AbstractContextManager[None]:
        problem = f"writing failed, with {self.n_committed:,} of {pluralize(self.n_rows, 'row')} kept"
        if self._command:
            return failed_writes(self.path, problem, f"Fix this, then continue with: {self._command}")
        return failed_writes(self.path, problem, "Fix this", [UseOption("resume", "continue", True)])


def finish_all(tables: Sequence[PartialTable]) -> list[Path]:
    """Finish the tables of one run together.

    Every file gets its name before the first work directory is removed, so that a resumed run never finds that only
    some of the tables exist.
    """
    for table in tables:
        table.publish()
    return [table.finish() for table in tables]


def count_committed(path: Path) -> int:
    """Return the number of rows of a partial output that are safe."""
    checksums = partial_path(path) / CHECKSUMS_NAME
    return checksums.stat().st_size // _CHECKSUM.itemsize if checksums.exists() else 0


def _checksum_of_fixed(work: WorkDirectory, places: Mapping[str, Place], n_rows: int) -> int:
    """Return the checksum of everything but the rows."""
    rows = defaultdict(list)
    for place in places.values():
        for begin, end, path, offset in place.spans(0, n_rows):
            rows[path].append((offset, (end - begin) * place.row_bytes))
    checksum = 0
    for found in sorted([work.data, *work.data.rglob("*")]):
        name = found.relative_to(work.path).as_posix()
        if found.is_dir() or (name in rows and work.data.is_dir()):
            continue
        checksum = zlib.crc32(name.encode(), checksum)
        with found.open("rb") as file:
            for offset, n_bytes in sorted(rows[name]):
                checksum = _checksum_of_file(file, offset - file.tell(), checksum)
                file.seek(offset + n_bytes)
            checksum = _checksum_of_file(file, found.stat().st_size - file.tell(), checksum)
    return checksum


def _checksum_of_file(file: IO[bytes], n_bytes: int, checksum: int) -> int:
    """Continue a checksum with the next bytes of a file, or with fewer if it ends."""
    while n_bytes > 0 and (block := file.read(min(n_bytes, _READ_BYTES))):
        checksum = zlib.crc32(block, checksum)
        n_bytes -= len(block)
    return checksum


def _write_fully(file: FileIO, offset: int, data: NDArray[Any]) -> None:
    """Write at an offset of an unbuffered file; one call to the system may write less than all."""
    view = np.ascontiguousarray(data).data.cast("B")
    file.seek(offset)
    while view:
        view = view[file.write(view) :]
