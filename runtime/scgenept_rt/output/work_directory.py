"""The directory beside an output that holds it while it is being written, and the lock on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from scgenept_rt.errors import OutputBusyError, OutputDirectoryError, OutputKindError
from scgenept_rt.output.journal import JOURNAL_NAME, Journal

try:
    import fcntl
except ImportError:  # Windows: nothing guards against two writers there
    fcntl = None  # type: ignore[assignment]

_LOCK_NAME = "lock"


def partial_path(target: Path) -> Path:
    """Return the work directory of an output: its own path with ``.partial`` appended."""
    return target.with_name(f"{target.name}.partial")


class WorkDirectory:
    """The locked work directory of one output.

    Attributes
    ----------
    target
        The output.
    path
        The work directory, ``OUT.partial``.
    data
        What becomes the output: ``OUT.partial/data.h5ad`` or ``data.zarr``.
    """

    def __init__(self, target: Path, lock: int) -> None:
        self.target = target
        self.path = partial_path(target)
        self.data = self.path / f"data{target.suffix.lower()}"
        self.replaced = self.path / f"replaced{target.suffix.lower()}"
        self._lock: int | None = lock

    @classmethod
    def lock(cls, target: Path) -> WorkDirectory:
        """Make the work directory if needed and lock it against every other process.

        Raises
        ------
        OutputBusyError
            If another process, or another writer of this one, holds it.
        """
        path = partial_path(target)
        while True:
            try:
                path.mkdir(exist_ok=True)
                lock = os.open(path / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
            except (FileExistsError, NotADirectoryError) as error:
                # Where mkdir found a directory that was removed just then, it says that there is something, too.
                with contextlib.suppress(FileNotFoundError):
                    if isinstance(error, NotADirectoryError) or not stat.S_ISDIR(path.lstat().st_mode):
                        raise OutputKindError(path, "a file", "a directory of partial output, or nothing") from None
                continue
            except FileNotFoundError:
                if not path.parent.is_dir():
                    raise OutputDirectoryError(target, "does not exist") from None
                continue  # its last holder removed it between the two calls
            try:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = os.path.samestat(os.fstat(lock), (path / _LOCK_NAME).stat())
            except BlockingIOError:
                os.close(lock)
                raise OutputBusyError(target) from None
            except FileNotFoundError:
                held = False
            if held:
                return cls(target, lock)
            os.close(lock)  # its last holder removed this file: lock the one that is there now

    def clear(self) -> None:
        """Delete what an earlier run left; the lock stays. A directory without a journal holds nothing of worth."""
        # the journal goes first: whatever else is left by a kill in here counts as nothing
        self._unlink(self.path / JOURNAL_NAME, self.path / f"{JOURNAL_NAME}.new")
        self._unlink(*self.path.glob("rows-*.bin"), self.path / "n_controls.bin")
        for entry in (self.data, self.replaced):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the work directory and release the lock."""
        self.clear()
        self._unlink(self.path / _LOCK_NAME)
        with contextlib.suppress(OSError):  # it may hold a file that is not ours to delete
            self.path.rmdir()
        self.release()

    @property
    def begun(self) -> bool:
        """Whether a run left a journal here, readable or not."""
        return (self.path / JOURNAL_NAME).exists()

    @property
    def released(self) -> bool:
        """Whether the lock was given up: the directory may belong to someone else by now."""
        return self._lock is None

    def release(self) -> None:
        """Release the lock; what is in the directory stays."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def load_journal(self) -> Journal | None:
        """Read the journal, None if nothing was begun."""
        return Journal.load(self.path, self.target)

    @staticmethod
    def _unlink(*paths: Path) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
