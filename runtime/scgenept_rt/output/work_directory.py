"""The directory beside an output that holds it while it is written, and the lock on it."""

from __future__ import annotations

import contextlib
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from scgenept_rt.errors import OutputBusyError, OutputError
from scgenept_rt.files.durable import check_own
from scgenept_rt.files.locking import Busy, lock
from scgenept_rt.output.journal import JOURNAL_NAME

CHECKSUMS_NAME = "checksums.bin"


def partial_path(target: Path) -> Path:
    """Return the work directory of an output: its own path with ``.partial`` appended."""
    return target.with_name(f"{target.name}.partial")


class WorkDirectory:
    """The work directory of one output, locked against other writers until it is released.

    Raises `OutputBusyError` if another process, or another writer of this one, has the lock.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = partial_path(target)
        self.data = self.path / f"data{target.suffix.lower()}"  # what becomes the output
        self.replaced = self.path / f"replaced{target.suffix.lower()}"  # a .zarr directory that the output replaces
        self.released = False
        self._held = ExitStack()
        try:
            check_own(self.path)
            self._held.enter_context(lock(self.path / "lock"))
        except Busy as busy:
            problem = f"another process is writing it now ({busy})"
            raise OutputBusyError(problem, "Wait for it, or choose another path", where=target) from None
        except (PermissionError, NotADirectoryError) as error:
            problem = f"{error.filename} cannot be used: {error.strerror}"
            raise OutputError(problem, "Remove it, or choose another path", where=target) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Release the lock after an error; a directory in which no run was begun goes."""
        if kind is not None:
            if not self.begun:
                self.remove()
            self.release()

    @property
    def begun(self) -> bool:
        """Whether a run left a journal here, readable or not."""
        return (self.path / JOURNAL_NAME).exists()

    def clear(self) -> None:
        """Delete what an earlier run left; the lock and files of others stay."""
        # the journal first: without it, whatever a kill leaves here counts as nothing
        for name in (JOURNAL_NAME, CHECKSUMS_NAME):
            for path in (self.path / name, *self.path.glob(f".{name}.*.new")):
                path.unlink(missing_ok=True)
        for entry in (self.data, self.replaced):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the work directory and release the lock, unless it was released before."""
        if self.released:
            return
        self.clear()
        for name in ("lock", "lock.owner"):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it may hold a file that is not ours
            self.path.rmdir()
        self.release()

    def release(self) -> None:
        """Release the lock; what is in the directory stays."""
        self._held.close()
        self.released = True
