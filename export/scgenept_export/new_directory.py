"""Directories that are written next to their place and renamed when complete, so that none is ever incomplete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scgenept_rt.errors import OutputError, OutputExistsError, UseOption
from scgenept_rt.files.failures import failed_writes


def check_destination(out: Path, kind: str, marker: str, *, overwrite: bool) -> None:
    """Raise `OutputError` unless a directory can be written at a path; makes the directory above it.

    `kind` is what it is, such as "bundle", `marker` the file that every directory of this kind holds: others are not
    replaced.
    """
    if out.name in ("", ".."):
        problem = f"the path gives the {kind} no name of its own"
        raise OutputError(problem, f"Choose another, such as {out / kind}", where=out)
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"is a file, but a {kind} is a directory", "Choose another path", where=out)
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            options = [UseOption("overwrite", "replace it", True)]
            raise OutputExistsError("exists and is not empty", "Choose another path", options, where=out)
        if not (out / marker).is_file():
            problem = f"holds files but no {marker}: it is not a {kind}, and is not replaced"
            raise OutputExistsError(problem, "Choose another path", where=out)
    with failed_writes(out, "it cannot be made"):
        out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"cannot be made: {out.parent} is not writable", "Choose another path", where=out)


@contextmanager
def replaced_directory(out: Path, kind: str) -> Iterator[Path]:
    """Make a directory beside `out` that takes its place at the end; on any failure it is removed."""
    # Hidden: `bundles/*` never lists one.
    partial, retired = (out.with_name(f".{out.name}.{what}") for what in ("partial", "replaced"))
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    try:
        with failed_writes(out, f"the {kind} cannot be written", "Free some space, or choose another path"):
            partial.mkdir()
            yield partial
            if out.exists():
                shutil.rmtree(retired, ignore_errors=True)
                out.rename(retired)
            partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(retired, ignore_errors=True)  # also after a process that was killed between the renames
