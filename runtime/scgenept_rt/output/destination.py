"""Where an output goes: checked before anything is computed, and opened new, resumed or in place of an older one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import OutputError, OutputExistsError, PartialOutputError, UseOption
from scgenept_rt.files.durable import check_directory
from scgenept_rt.files.failures import failed_writes
from scgenept_rt.files.stores import import_zarr, open_store
from scgenept_rt.output.partial_table import PartialTable, count_committed
from scgenept_rt.output.table_spec import RUN_DIGEST, UNS_KEY, TableSpec
from scgenept_rt.output.work_directory import (
    DISCARD,
    JOURNAL_NAME,
    Damage,
    Journal,
    WorkDirectory,
    partial_path,
    plain,
    run_digest,
)
from scgenept_rt.wording import format_size, pluralize

_READ_VALUES = 1 << 20


def cells_path(path: str | Path) -> Path:
    """Return where the cells go when both aggregates are written: ``OUT.cells.h5ad`` beside ``OUT.h5ad``."""
    path = Path(path)
    return path.with_suffix(f".cells{path.suffix}")


def check_destination(
    path: str | Path, *, overwrite: bool = False, resume: bool = False, input_path: str | Path | None = None
) -> Path:
    """Check, before anything is computed, that an output can be written; nothing is left behind.

    `input_path` is the file that the output is computed from and must not replace. Raises `OutputError`, or
    `MissingPackageError` for .zarr without the zarr package. Beside what an interrupted run left, an output that exists
    is accepted: `open_table` says more of it.
    """
    path = Path(path)
    _check_ending(path)
    with (
        failed_writes(path, "no file can be written under this name with .partial appended"),
        suppress(FileNotFoundError, NotADirectoryError),
    ):
        partial_path(path).lstat()
    if input_path is not None and _same_place(path, Path(input_path)):
        raise OutputError("this is the input file itself, which is never replaced", "Choose another path", where=path)
    if os.path.lexists(path):
        _check_replaceable(path)
        continues = (partial_path(path) / JOURNAL_NAME).exists()
        if not (overwrite or continues or (resume and stored_entry(path, RUN_DIGEST) is not None)):
            raise _exists(path)
    check_directory(path)
    return path


def open_table(
    path: str | Path,
    spec: TableSpec,
    *,
    settings: Mapping[str, Any],
    overwrite: bool = False,
    resume: bool = False,
    command: str = "",
    on_notice: Callable[[str], None] | None = None,
) -> PartialTable:
    """Open an output for writing, in the format that its ending names.

    The rows go to ``OUT.h5ad.partial/``; the output itself appears, or is replaced, when the table is finished.

    A run is only continued with the same `settings`: everything that the rows depend on, of types that JSON has. With
    `resume` it continues what an interrupted run left, after its committed rows, or starts afresh without any; an
    output that a run with the same settings finished has nothing more to write. `overwrite` replaces an existing output
    and, without `resume`, discards what an interrupted run left. `command` is the one to continue this run with, for
    messages; `on_notice` is called with the damage that a resumed run found.

    Raises `OutputError` as `check_destination` does, and `PartialOutputError` if an interrupted run left a partial
    output and neither `resume` nor `overwrite` is set (beside an output that exists, if `overwrite` is not), or that
    run had other settings.
    """
    path = check_destination(path, overwrite=overwrite, resume=resume)
    _check_room(path, spec)
    settings, fingerprint, exists = plain(settings), spec.fingerprint(), os.path.lexists(path)
    digest = str(spec.uns.get(RUN_DIGEST) or run_digest(settings, fingerprint))
    with WorkDirectory(path) as work:
        # not where a kill came after the file had got its name
        continues = work.begun and work.data.exists() and not _same_place(work.data, path)
        if resume and exists and not continues and stored_entry(path, RUN_DIGEST) == digest:
            # finished by an earlier run with the same settings: a loop that resumes until it succeeds must end
            return PartialTable(work, spec, command, overwrite=False, published=True)
        try:
            journal = Journal.load(path) if resume or (continues and not overwrite) else None
            if journal is not None:
                # Before a command to continue is named, which continues a run of its own settings alone.
                journal.check_same(settings, fingerprint, path)
                if not resume or (exists and not overwrite):
                    raise _left(path, spec, command, exists)
                table = PartialTable(work, spec, command, overwrite=overwrite)
                n_lost = table.load(journal)
                if n_lost and on_notice is not None:
                    on_notice(f"{work.path} is damaged: its last {pluralize(n_lost, 'row')} will be predicted again")
                return table
        except Damage as damage:
            if not resume:
                raise _not_continued(path, damage) from damage
            if on_notice is not None:
                left = f"what an interrupted run left in {work.path} cannot be continued ({damage})"
                on_notice(f"{left}: the run starts over")
        if exists and not overwrite:
            raise _exists(path, ", and is not of this run" if resume else "")
        work.clear()
        spec = replace(spec, uns={**spec.uns, RUN_DIGEST: digest})
        table = PartialTable(work, spec, command, overwrite=overwrite)
        table.begin(settings)
        return table


def _exists(path: Path, more: str = "") -> OutputExistsError:
    replace = UseOption("overwrite", "replace it", True)
    return OutputExistsError(f"the output exists already{more}", "Choose another path", [replace], where=path)


def _not_continued(path: Path, damage: Damage) -> PartialOutputError:
    problem = f"an interrupted run left a partial output in {partial_path(path)} that cannot be continued: {damage}"
    return PartialOutputError(problem, options=[DISCARD], where=path)


def _left(path: Path, spec: TableSpec, command: str, exists: bool) -> PartialOutputError:
    problem = f"an interrupted run left {count_committed(path):,} of {pluralize(spec.n_rows, 'row')}"
    purpose = "continue it"
    if exists:
        problem = f"the output exists already, and {problem} of another one in {partial_path(path)}"
        purpose = "continue it, together with the following"
        command = command.replace(" --resume", " --overwrite --resume")
    if not command:
        return PartialOutputError(problem, options=[UseOption("resume", purpose, True), DISCARD], where=path)
    remedy = f"Continue it with: {command}\nIt continues with the same settings alone"
    return PartialOutputError(problem, remedy, [DISCARD], where=path)


def find_unfinished(path: Path) -> tuple[Journal, int] | None:
    """Return the journal of what a run left of an output, and how many rows of it are safe; None if there is nothing.

    Raises `OutputError` if it cannot be used.
    """
    try:
        journal = Journal.load(path)
    except Damage as damage:
        raise _not_continued(path, damage) from damage
    return None if journal is None else (journal, min(count_committed(path), journal.table["n_rows"]))


def stored_entry(path: str | Path, name: str) -> Any:
    """Return an entry of ``uns["scgenept_rt"]`` of a finished output, None if it has none or cannot be read."""
    try:
        with open_store(Path(path)) as store:
            value = np.asarray(store["uns"][UNS_KEY][name][()]).item()
    except Exception:  # a damaged file: libraries raise many kinds
        return None
    return value.decode() if isinstance(value, bytes) else value


def stored_layer(path: str | Path, name: str) -> Iterator[NDArray[np.float32]]:
    """Yield a layer of a finished output, some rows at a time; raise OSError or KeyError if there is none."""
    with open_store(Path(path)) as store:
        layer = store["layers"][name]
        step = max(1, _READ_VALUES // layer.shape[1])
        for begin in range(0, layer.shape[0], step):
            yield np.asarray(layer[begin : begin + step])


def _check_ending(path: Path) -> None:
    ending = path.suffix.lower()
    if ending == ".zarr":
        import_zarr(f"writing {path}")
    if ending in (".h5ad", ".zarr"):
        return
    remedy = "Choose another path"
    if ending in (".csv", ".tsv", ".txt", ".parquet", ".xlsx"):
        h5ad = path.with_suffix(".h5ad")
        remedy = f"Write {h5ad}, then make a table of it with `scgenept-rt table {h5ad} --out {path}`"
    elif path.is_dir():
        remedy = f"It is a directory: write a file in it, such as {path / 'predicted.h5ad'}"
    raise OutputError(f"the ending {path.suffix!r} is unknown, expected .h5ad or .zarr", remedy, where=path)


def _same_place(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)  # Path.resolve raises where links go in a circle


def _check_replaceable(path: Path) -> None:
    expected = "file" if path.suffix.lower() == ".h5ad" else "zarr store"
    if expected == "file":
        fits = not path.is_dir() and (path.is_file() or path.is_symlink())
    else:
        fits = any((path / name).exists() for name in (".zgroup", "zarr.json"))
    if not fits:
        found = "directory" if path.is_dir() else "file" if path.is_file() else "pipe or a device"
        raise OutputError(f"there is a {found}, expected a {expected} or nothing", "Choose another path", where=path)


def _check_room(path: Path, spec: TableSpec) -> None:
    free = shutil.disk_usage(path.parent).free
    with suppress(FileNotFoundError):  # another process is working here, as the lock will show
        # what an interrupted run takes up is either part of the output or deleted first
        free += sum(file.lstat().st_blocks * 512 for file in partial_path(path).rglob("*"))
    if spec.n_bytes > free:
        fewer = [UseOption("n_controls", "write fewer rows"), UseOption("aggregate", "write means alone", "mean")]
        raise OutputError(
            f"the output needs about {format_size(spec.n_bytes)}, but its disk has {format_size(free)} free",
            "Free some space, or choose a path on another disk",
            fewer if spec.kind == "cells" else (),
            where=path,
        )
