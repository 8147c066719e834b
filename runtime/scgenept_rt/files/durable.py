"""Writes that survive a crash: the new content is whole and on disk, or the old content is still there."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from itertools import chain
from pathlib import Path
from typing import IO, Any

from scgenept_rt.errors import OutputError
from scgenept_rt.files.failures import failed_writes


def write_durably(path: Path, data: bytes | memoryview) -> None:
    """Write or replace a file, and wait until its content and name are on disk.

    A crash at any moment leaves the old file or the new one, and perhaps a hidden file ``.NAME.PID.new``. So does an
    OSError, where it cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    try:
        with new.open("xb") as stream:  # through no link that somebody planted under this name
            stream.write(data)
            stream.flush()
            sync_data(stream)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def check_own(path: Path) -> None:
    """Raise PermissionError if a working file or directory was planted: links are there, or it is another user's.

    Where the system gives new files to somebody else, as servers of files do with those of root, that is the owner of
    the directory that holds it.
    """
    entries = (Path(directory, name) for directory, *names in os.walk(path) for name in chain(*names))
    for entry in chain([path], entries):
        if entry.is_symlink() or _is_special(entry):
            raise PermissionError(errno.EPERM, f"{entry.name} is a symbolic link, a pipe or a device", str(entry))
    if path.exists() and path.stat().st_uid not in (os.geteuid(), path.parent.stat().st_uid):
        raise PermissionError(errno.EPERM, f"{path.name} belongs to another user", str(path))


def write_report(path: Path, data: bytes) -> None:
    """Write a file as `write_durably` does, through symbolic links; write to a device or pipe directly."""
    with failed_writes(path, "writing failed"):
        if _is_stream(path):
            path.write_bytes(data)
        else:
            write_durably(Path(os.path.realpath(path)), data)


def check_report_path(path: Path) -> None:
    """Raise `OutputError` unless `write_report` can write a file at this path; nothing is left behind."""
    if path.is_dir():
        raise OutputError("this is a directory, expected a file", "Choose another path", where=path)
    if not _is_stream(path):
        check_directory(Path(os.path.realpath(path)) if path.is_symlink() else path)


def check_directory(path: Path) -> None:
    """Raise `OutputError` unless a file can be made beside this path; nothing is left behind."""
    directory = path.parent
    if not directory.is_dir():
        found = "is not a directory" if directory.exists() else "does not exist"
        raise OutputError(f"the directory {directory} {found}", "Create it, or choose another path", where=path)
    remedy = "Check permissions and free space, or choose another path"
    with failed_writes(path, f"the directory {directory} cannot be written", remedy):
        tempfile.TemporaryFile(dir=directory).close()


def _is_stream(path: Path) -> bool:
    """Return whether a file is a device or pipe: replacing /dev/stdout would replace the file that it stands for."""
    return path.is_relative_to("/dev") or _is_special(path)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def move_durably(source: Path, target: Path, *, replace: bool = True) -> None:
    """Rename a file or directory whose content is synced, and wait until the new name is on disk.

    Raises FileExistsError if there is a target and `replace` is false; one that another process makes meanwhile stays.
    """
    if replace:
        source.replace(target)
    else:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        try:
            os.link(source, target)  # unlike a rename it never replaces a file
        except FileExistsError:
            raise
        except OSError:  # a directory, which is never replaced if it holds something; or there are no hard links
            source.rename(target)
        else:
            sync_directory(target.parent)
            source.unlink()
    sync_directory(target.parent)


def sync_data(stream: IO[Any]) -> None:
    """Wait until the content written to an open file is on disk; flush a buffered one first."""
    getattr(os, "fdatasync", os.fsync)(stream.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on disk, where the file system can do so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Wait until everything below a directory is on disk."""
    for directory, _, names in os.walk(root):
        for name in names:
            with Path(directory, name).open("r+b") as stream:
                sync_data(stream)
        sync_directory(Path(directory))
