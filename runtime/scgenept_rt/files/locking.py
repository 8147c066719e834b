"""Locks between processes."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}

_log = logging.getLogger(__name__)


class Busy(Exception):  # noqa: N818 - never shown: callers raise an error of their own
    """Another process, or another thread of this one, holds the lock.

    Attributes
    ----------
    holder
        Who holds it, such as "process 4711 on node12".
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"locked by {holder}")


@contextmanager
def lock(path: Path, *, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock file against every other process and thread; the system frees it if this process is killed.

    The file names its holder and stays in place. Who holds the lock may delete the file and its directory: whoever
    comes next makes new ones. On a file system without locks a second file, ``NAME.owner``, stands for the lock as long
    as it exists. A killed process leaves it: one of this machine is known to be gone, of another one it says which file
    to delete.

    Parameters
    ----------
    path
        The lock file; it and its directory are made if they are missing.
    on_wait
        Called with the holder before waiting for it. None: do not wait.

    Raises
    ------
    Busy
        If the lock is taken and `on_wait` is None.
    NotADirectoryError
        If something other than a directory is in the place of the directory.
    """
    held = filelock.FileLock(path, thread_local=False, fallback_to_soft=False)
    owner: Path | None = None
    try:
        try:
            _acquire(held, path, timeout=0)
        except filelock.Timeout:
            holder = _holder(path)
            if on_wait is None:
                raise Busy(holder) from None
            on_wait(holder)
            _acquire(held, path, timeout=-1)
        with contextlib.suppress(OSError):  # a full disk, say: the lock holds all the same
            path.write_text(_this_process(), "utf-8")
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        owner = path.with_name(f"{path.name}.owner")
        _log.warning("%s: the file system has no locks; the file %s stands for one.", path.parent, owner.name)
        _own(owner, on_wait)
    try:
        yield
    finally:
        if owner is not None:
            owner.unlink(missing_ok=True)
        held.release()


def _own(path: Path, on_wait: Callable[[str], None] | None) -> None:
    """Make the file that stands for a lock; only one process can."""
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(_this_process())
            return
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        except FileExistsError:
            holder = _holder(path)
        if _is_gone(holder):
            path.unlink(missing_ok=True)
            continue
        holder = f"{holder}; if it is gone, delete {path}"
        if on_wait is None:
            raise Busy(holder)
        on_wait(holder)
        time.sleep(1.0)


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _is_gone(holder: str) -> bool:
    """Return whether a holder was a process of this machine that has ended."""
    found = re.fullmatch(r"process (\d+) on (.*)", holder)
    if found is None or found[2] != platform.node():
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        return False
    return False


def _acquire(held: filelock.BaseFileLock, path: Path, timeout: float) -> None:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=timeout)
            return
        except (FileNotFoundError, FileExistsError, NotADirectoryError):
            # The last holder may remove the directory at any moment, also between two steps of mkdir.
            for directory in path.parents:
                if os.path.lexists(directory) and not directory.is_dir():
                    message = "there is a file where a directory is needed"
                    raise NotADirectoryError(errno.ENOTDIR, message, str(directory)) from None


def _holder(path: Path) -> str:
    try:
        return path.read_text("utf-8") or "another process"
    except OSError:
        return "another process"
