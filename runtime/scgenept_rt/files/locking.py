"""Locks between processes."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}

_log = logging.getLogger(__name__)


class Busy(Exception):  # noqa: N818 - never shown: callers raise an error of their own
    """Another process, or another thread of this one, holds the lock; the message is "process 4711 on node12"."""


@contextmanager
def lock(path: Path, *, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock file against every other process and thread; the system frees it if this process is killed.

    The file names its holder and stays in place. Who holds the lock may delete the file and its directory: whoever
    comes next makes new ones. On a file system without locks a second file, ``NAME.owner``, is the lock as long as it
    exists. A killed process leaves it: one of this machine is known to be gone, of another one the error says which
    file to delete.

    The directory of the file is made if it is missing; raises NotADirectoryError if something else is in its place. If
    the lock is taken, `on_wait` is called with the holder before waiting; without it, `Busy` is raised.
    """
    held: filelock.BaseFileLock = filelock.FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        _acquire(held, path, on_wait)
        with contextlib.suppress(OSError):  # a full disk, say: the lock holds all the same
            path.write_text(f"{os.getpid()}\n{platform.node()}\n", "utf-8")  # as in the file of a SoftFileLock
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        owner = path.with_name(f"{path.name}.owner")
        _log.warning("%s: the file system has no locks; the file %s stands for one.", path.parent, owner.name)
        held = filelock.SoftFileLock(owner, thread_local=False)
        _acquire(held, owner, on_wait, f"; if it is gone, delete {owner}")
    try:
        yield
    finally:
        held.release()


def _acquire(
    held: filelock.BaseFileLock, path: Path, on_wait: Callable[[str], None] | None, if_killed: str = ""
) -> None:
    timeout = 0.0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.acquire(timeout=timeout)
            return
        except filelock.Timeout:
            if not path.exists():  # it was that of a killed process, or its holder has ended
                continue
            holder = _holder(path) + if_killed
            if on_wait is None:
                raise Busy(holder) from None
            on_wait(holder)
            timeout = -1
        except (FileNotFoundError, FileExistsError, NotADirectoryError):
            # The last holder may remove the directory at any moment, also between two steps of mkdir.
            for directory in path.parents:
                if os.path.lexists(directory) and not directory.is_dir():
                    message = "there is a file where a directory is needed"
                    raise NotADirectoryError(errno.ENOTDIR, message, str(directory)) from None


def _holder(path: Path) -> str:
    try:
        process, machine, *_ = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return "another process"
    return f"process {process} on {machine}"
