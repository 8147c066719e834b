"""Where an output goes: checked before anything is computed, and opened new, resumed or in place of an older one."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import (
    OutputDirectoryError,
    OutputExistsError,
    OutputFormatError,
    OutputIsInputError,
    OutputKindError,
    OutputNameError,
    OutputSpaceError,
    PartialOutputError,
)
from scgenept_rt.output.h5ad_file import H5adTable
from scgenept_rt.output.journal import JOURNAL_NAME, Journal, plain, run_digest
from scgenept_rt.output.partial_table import PartialTable
from scgenept_rt.output.table_spec import RUN_DIGEST, TableSpec
from scgenept_rt.output.work_directory import WorkDirectory, partial_path
from scgenept_rt.output.zarr_store import ZarrTable, import_zarr

_TABLES: Mapping[str, type[PartialTable]] = {".h5ad": H5adTable, ".zarr": ZarrTable}


def cells_path(path: str | Path) -> Path:
    """Return where the cells go when both aggregates are written: ``OUT.cells.h5ad`` beside ``OUT.h5ad``."""
    path = Path(path)
    return path.with_suffix(f".cells{path.suffix}")


def check_destination(
    path: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    n_bytes: int = 0,
    fewer: str = "",
    input_path: str | Path | None = None,
) -> Path:
    """Find out, before anything is computed, whether an output can be written; nothing is left behind.

    Parameters
    ----------
    n_bytes
        Expected size of the output (`TableSpec.n_bytes`).
    fewer
        The options that would make it smaller, for the message of a disk that is too small.
    input_path
        What the output is computed from, which it must not replace.

    Raises
    ------
    OutputFormatError
        If the ending is neither .h5ad nor .zarr.
    ZarrMissingError
        If it is .zarr and the zarr package is not installed.
    OutputNameError
        If its name, or that of its work directory, is too long for the file system.
    OutputIsInputError
        If the output is the input.
    OutputKindError
        If a directory or a device is in the place of a file, or something that is no store in the place of a store.
    OutputExistsError
        If the output exists and is not to be replaced; where an interrupted run left a partial output beside it, that
        is left to `open_table`, which knows the command that continues it.
    OutputDirectoryError
        If its directory does not exist or cannot be written.
    OutputSpaceError
        If the disk has too little room.
    """
    path = Path(path)
    _table_class(path)
    if path.suffix.lower() == ".zarr":
        import_zarr(path)
    _check_name(path)
    if isinstance(input_path, (str, Path)) and _same_place(path, Path(input_path)):
        raise OutputIsInputError(path)
    if os.path.lexists(path):
        _check_replaceable(path)
        continues = (partial_path(path) / JOURNAL_NAME).exists()
        if not (overwrite or continues or (resume and stored_entry(path, RUN_DIGEST) is not None)):
            raise OutputExistsError(path)
    directory = path.parent
    if not directory.exists():
        raise OutputDirectoryError(path, "does not exist")
    if not directory.is_dir():
        raise OutputDirectoryError(path, "is not a directory", "Choose another path")
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error
    # what an interrupted run takes up is either part of the output or deleted first
    free = shutil.disk_usage(directory).free + _allocated(partial_path(path))
    if n_bytes > free:
        raise OutputSpaceError(path, n_bytes, free, fewer=fewer)
    return path


def open_table(
    path: str | Path,
    spec: TableSpec,
    *,
    settings: Mapping[str, Any],
    overwrite: bool = False,
    resume: bool = False,
    command: str = "",
) -> PartialTable:
    """Open an output for writing, in the format that its ending names.

    The rows go to ``OUT.h5ad.partial/``; the output itself appears, or is replaced, when the table is finished.

    Parameters
    ----------
    settings
        Everything that the rows depend on, of types that JSON has; a run is only resumed with the same settings.
    overwrite
        Replace an existing output; without `resume`, also discard what an interrupted run left.
    resume
        Continue what an interrupted run left, from `RowWriter.n_committed`; without any, start afresh. An output that
        a run with the same settings finished is complete: the table that is returned has nothing more to write.
    command
        The command that continues this run, for messages.

    Raises
    ------
    OutputExistsError
        If the output exists and is not to be replaced.
    PartialOutputError
        If an interrupted run left a partial output, and neither `resume` nor `overwrite` is set; beside an output that
        exists, unless `overwrite` is set.
    ResumeMismatchError
        If that run had other settings, whether this one is to continue it or not.
    PartialDamagedError
        If what it left cannot be continued.
    OutputBusyError
        If another process is writing it.
    OutputError
        If the path cannot be used: see `check_destination`.
    """
    fewer = "--n-controls, or --aggregate mean" if spec.kind == "cells" else ""
    path = check_destination(path, overwrite=overwrite, resume=resume, n_bytes=spec.n_bytes, fewer=fewer)
    work = WorkDirectory.lock(path)
    try:
        return _open_locked(work, spec, plain(settings), overwrite, resume, command)
    except BaseException:
        if not work.released:
            if work.begun:
                work.release()
            else:
                work.remove()
        raise


def _open_locked(
    work: WorkDirectory, spec: TableSpec, settings: Mapping[str, Any], overwrite: bool, resume: bool, command: str
) -> PartialTable:
    path = work.target
    table_class = _table_class(path)
    journal: Journal | None = None
    if resume or not overwrite:
        journal = work.load_journal()
    exists = os.path.lexists(path)
    if (
        resume
        and exists
        and journal is None
        and stored_entry(path, RUN_DIGEST) == run_digest(settings, spec.fingerprint())
    ):
        # finished by an earlier run with the same settings: a loop that resumes until it succeeds has to end
        done = Journal(spec.n_rows, spec.n_rows, settings, spec.fingerprint(), {}, finishing=True)
        return table_class.published(work, spec, done, command)
    if journal is not None and journal.finishing and not work.data.exists():
        # killed after the file got its name, before its work directory was gone
        if exists and resume:
            journal.check_same(settings, spec.fingerprint(), path)
            return table_class.published(work, spec, journal, command)
        journal = None
    if exists and not overwrite:
        if journal is None:
            raise OutputExistsError(path)
        journal.check_same(settings, spec.fingerprint(), path)
        raise PartialOutputError(
            path, journal.n_committed, journal.n_rows, _replacing(command), beside_existing=work.path
        )
    if journal is None:
        work.clear()
        spec = dataclasses.replace(spec, uns={**spec.uns, RUN_DIGEST: run_digest(settings, spec.fingerprint())})
        return table_class.create(work, spec, settings, command)
    # Before a command to continue is named: the one at hand continues a run of its own settings alone.
    journal.check_same(settings, spec.fingerprint(), path)
    if not resume:
        raise PartialOutputError(path, journal.n_committed, journal.n_rows, command)
    return table_class.resume(work, spec, journal, command)


def _replacing(command: str) -> str:
    """Return the command that continues a run, which names --resume last, as one that may replace the output."""
    return f"{command.removesuffix(' --resume')} --overwrite --resume" if command.endswith(" --resume") else command


def interrupted_settings(path: str | Path) -> Mapping[str, Any] | None:
    """Return the settings of the run that left a partial output, None if there is none.

    Raises
    ------
    PartialDamagedError
        If what it left cannot be read.
    """
    journal = Journal.load(partial_path(Path(path)), Path(path))
    return None if journal is None else journal.settings


def stored_entry(path: str | Path, name: str) -> Any:
    """Return an entry of ``uns["scgenept_rt"]`` of a finished output, None if it has none or cannot be read."""
    try:
        return _table_class(Path(path)).stored_entry(Path(path), name)
    except (OSError, KeyError, ValueError, TypeError):
        return None


def stored_layer(path: str | Path, name: str) -> Iterator[NDArray[np.float32]]:
    """Yield a layer of a finished output in blocks of rows.

    Raises
    ------
    OSError, KeyError
        If there is no such output or layer.
    """
    return _table_class(Path(path)).stored_layer(Path(path), name)


def _table_class(path: Path) -> type[PartialTable]:
    try:
        return _TABLES[path.suffix.lower()]
    except KeyError:
        raise OutputFormatError(path) from None


def _same_place(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def _check_name(path: Path) -> None:
    partial = partial_path(path)
    try:
        partial.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputNameError(path, partial.name) from None


def _unwritable(path: Path, error: OSError) -> OutputDirectoryError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedies = {errno.EROFS: "Choose a path on a disk that can be written"}
    remedy = "Free some space, or choose a path on another disk" if full else remedies.get(error.errno or 0)
    return OutputDirectoryError(
        path, f"cannot be written ({error.strerror})", remedy or "Check its permissions, or choose another path"
    )


def _check_replaceable(path: Path) -> None:
    mode = path.lstat().st_mode
    if path.suffix.lower() == ".h5ad":
        if path.is_dir():
            raise OutputKindError(path, "a directory", "a file or nothing")
        # A FIFO or a device is there for a purpose: a file in its place would break what reads from it.
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OutputKindError(path, "something that is no regular file (a pipe or a device)", "a file or nothing")
    elif not path.is_dir():
        raise OutputKindError(path, "a file", "a zarr store (a directory) or nothing")
    elif not any((path / name).exists() for name in (".zgroup", "zarr.json")):
        raise OutputKindError(path, "a directory that is no zarr store", "a zarr store or nothing")


def _allocated(directory: Path) -> int:
    """Bytes of disk that the files below a directory take up (a file with holes counts less than its size)."""
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            try:
                status = (Path(root) / name).lstat()
            except FileNotFoundError:
                continue  # another process is working here, which the lock will tell
            total += getattr(status, "st_blocks", status.st_size // 512) * 512
    return total
