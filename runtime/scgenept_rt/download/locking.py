"""Locks between processes, and the directory where one file is worked on."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing guards against two downloads of one file there
    fcntl = None  # type: ignore[assignment]

WORK_NAME = ".partial"
_LOCK_NAME = "lock"


@contextmanager
def exclusive_file(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file against every other process and thread; the kernel frees it should this one be killed."""
    descriptor = _locked(path, on_wait)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def work_directory(root: Path, place: str, on_wait: Callable[[], None]) -> Iterator[Path]:
    """Yield the directory, locked, where the file `place` is put together; it is removed once it holds nothing.

    What an interrupted process left in it stays: that is what the next one goes on with.
    """
    path = root / WORK_NAME / place
    descriptor = _locked(path / _LOCK_NAME, on_wait)
    try:
        yield path
    finally:
        if [entry.name for entry in path.iterdir()] == [_LOCK_NAME]:
            (path / _LOCK_NAME).unlink()
            with contextlib.suppress(OSError):  # another process may have come in already
                for directory in (path, *path.parents):
                    if directory == root:
                        break
                    directory.rmdir()
        os.close(descriptor)


def _locked(path: Path, on_wait: Callable[[], None] | None) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # its last holder removed the directory between the two calls
        except FileExistsError as error:
            # So does mkdir end, too, if a directory is removed just after it was found to be there.
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.lstat(error.filename).st_mode):
                    raise
            continue
        try:
            if fcntl is not None:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if on_wait is not None:
                        on_wait()
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            held = os.path.samestat(os.fstat(descriptor), path.stat())
        except FileNotFoundError:
            held = False
        except BaseException:
            os.close(descriptor)
            raise
        if held:
            return descriptor
        os.close(descriptor)  # its last holder removed this file: lock the one that is there now
