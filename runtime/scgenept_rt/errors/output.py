"""Errors about where predictions go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.wording import format_size, pluralize


def _rows(n_committed: int, n_rows: int) -> str:
    return f"{n_committed:,} of {pluralize(n_rows, 'row')}"


class OutputError(ScgeneptError):
    """An output path that cannot be used, or a partial output that cannot be continued."""

    def __init__(self, path: Path | str, message: str) -> None:
        self.path = Path(path)
        super().__init__(message)


class OutputFormatError(OutputError, ValueError):
    """The ending of the output path names no format that can be written."""

    def __init__(self, path: Path | str) -> None:
        ending = Path(path).suffix
        super().__init__(
            path,
            f"output {path}: the ending {ending!r} is unknown; outputs end in .h5ad or .zarr. "
            "Give a path with one of these endings.",
        )


class OutputExistsError(OutputError, FileExistsError):
    """The output exists and was not to be replaced."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, f"output {path} exists already. Choose another path, or replace it with --overwrite.")


class OutputKindError(OutputError, OSError):
    """Something at the output path must not be replaced: a directory, a file, or a directory that is no store."""

    def __init__(self, path: Path | str, found: str, expected: str) -> None:
        super().__init__(path, f"output {path}: there is {found}, expected {expected}. Choose another path.")


class OutputDirectoryError(OutputError, OSError):
    """The directory of the output does not exist or cannot be written; `remedy` is what may be done about that."""

    def __init__(self, path: Path | str, problem: str, remedy: str = "Create it, or choose another path") -> None:
        super().__init__(path, f"output {path}: the directory {Path(path).parent} {problem}. {remedy}.")


class OutputNameError(OutputError, OSError):
    """The name of the output is too long for its file system, or that of the directory that holds it at first is."""

    def __init__(self, path: Path | str, partial: str) -> None:
        n_bytes, n_partial = (len(os.fsencode(name)) for name in (Path(path).name, partial))
        super().__init__(
            path,
            f"output {path}: the file system takes no name or path of this length. Its name has "
            f"{pluralize(n_bytes, 'byte')}, and that of the directory that holds it while it is written "
            f"(.partial is appended) {n_partial:,}; most file systems take 255. Choose a shorter one.",
        )


class OutputIsInputError(OutputError, ValueError):
    """The output would replace the input that it is computed from."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, f"output {path} is the input file itself, which is never replaced. Choose another path.")


class OutputSpaceError(OutputError, OSError):
    """The disk has too little room for the output."""

    def __init__(self, path: Path | str, needed: int, free: int, *, fewer: str = "") -> None:
        ways = ["Free some space", "choose a path on another disk", *([f"write fewer rows ({fewer})"] if fewer else [])]
        super().__init__(
            path,
            f"output {path}: it needs about {format_size(needed)}, but its disk has {format_size(free)} free. "
            f"{', '.join(ways[:-1])}{',' if fewer else ''} or {ways[-1]}.",
        )


class OutputWriteError(OutputError, OSError):
    """Writing failed midway (a full disk, a lost mount); the rows committed so far are kept."""

    def __init__(self, path: Path | str, problem: str, n_committed: int, n_rows: int, command: str) -> None:
        super().__init__(
            path,
            f"output {path}: writing failed ({problem}); {_rows(n_committed, n_rows)} kept. "
            f"Put that right, then continue with: {command or 'the same command and --resume'}",
        )


class OutputUnfinishedError(OutputError, OSError):
    """A file that is written in one go could not be written; nothing of it is left."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(
            path,
            f"output {path}: it could not be written ({problem}); nothing of it is left. "
            "Put that right and run the command again, or choose another path.",
        )


class PartialOutputError(OutputError, FileExistsError):
    """An interrupted run left part of this output, and nothing says whether to continue or to discard it.

    Where the output exists as well, `beside_existing` is the directory of the partial one, which is to replace it.
    """

    def __init__(
        self,
        path: Path | str,
        n_committed: int,
        n_rows: int,
        command: str,
        *,
        beside_existing: Path | str | None = None,
    ) -> None:
        self.n_committed = n_committed
        self.n_rows = n_rows
        left = f"an interrupted run left {_rows(n_committed, n_rows)}"
        if beside_existing is None:
            message = (
                f"output {path}: {left}. "
                f"Continue it with: {command or 'the same command and --resume'}\nor discard it with --overwrite."
            )
        else:
            message = (
                f"output {path} exists already, and {left} of another one in {beside_existing}. "
                f"Continue it with: {command or 'the same command and --overwrite --resume'}\n"
                "or discard it and start anew with --overwrite alone."
            )
        super().__init__(path, message)


class PartialDamagedError(OutputError, ValueError):
    """What an interrupted run left cannot be continued."""

    def __init__(self, path: Path | str, partial: Path | str, problem: str) -> None:
        super().__init__(
            path,
            f"output {path}: the partial output in {partial} cannot be continued: {problem}. "
            "Discard it and start again with --overwrite (without --resume).",
        )


class ResumeMismatchError(OutputError, ValueError):
    """An interrupted run left part of this output, and had other settings than the run that is to write it."""

    def __init__(self, path: Path | str, differences: Sequence[tuple[str, str, str]]) -> None:
        self.differences = tuple(differences)
        lines = "".join(f"\n  {name}: {before} before, {now} now" for name, before, now in differences)
        super().__init__(
            path,
            f"output {path}: the interrupted run that left part of it had other settings:{lines}\n"
            "Resume with the settings of before, or discard it with --overwrite (without --resume).",
        )


class OutputBusyError(OutputError, BlockingIOError):
    """Another process is writing this output."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            path, f"output {path}: another process is writing it now. Wait for that one, or choose another path."
        )


class ZarrMissingError(ScgeneptError, ImportError):
    """A .zarr path was given, but the zarr package is not installed."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"{path}: reading or writing .zarr needs the zarr package. "
            "Install it with `pip install 'scgenept-rt[zarr]'`, or use .h5ad."
        )
