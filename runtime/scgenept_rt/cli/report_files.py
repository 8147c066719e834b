"""Files that a command writes its figures to, beside what it prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path


def check_report_paths(outputs: Sequence[Path | None], inputs: Sequence[Path | None]) -> None:
    """Find out before minutes of prediction whether the reports can be written.

    Raises
    ------
    OutputDirectoryError, OutputKindError, OutputIsInputError
        If a directory is missing or in the place of a file, or if a report would replace an input or another report.
    """
    from scgenept_rt.errors import OutputDirectoryError, OutputIsInputError, OutputKindError

    used = {path.resolve() for path in inputs if path is not None}
    written: set[Path] = set()
    for path in outputs:
        if path is None:
            continue
        if not path.parent.is_dir():
            raise OutputDirectoryError(path, "does not exist")
        if path.is_dir():
            raise OutputKindError(path, "a directory", "a file")
        place = path.resolve()
        if place in used:
            raise OutputIsInputError(path)
        if place in written:
            raise OutputKindError(path, "another report of the same command", "a file of its own")
        written.add(place)


def write_report(path: Path | None, text: Callable[[], str]) -> None:
    """Write a report where one is asked for, and say so.

    Raises
    ------
    ReportWriteError
        If the file cannot be written.
    """
    from scgenept_rt.evaluation.errors import ReportWriteError

    if path is None:
        return
    content = text()
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ReportWriteError(path, error.strerror or str(error)) from error
    print(f"wrote {path}")
