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


def write_reports(reports: Sequence[tuple[Path | None, Callable[[], str]]], show: Callable[[], None]) -> None:
    """Write the reports that are asked for, then print the figures and what was written.

    In this order, as a reader of the pipe may go away (`| head`), which ends the program; and figures that were
    computed are printed even if a report cannot be written.

    Raises
    ------
    ReportWriteError
        If a file cannot be written.
    """
    written = []
    try:
        for path, text in reports:
            if path is not None:
                _write(path, text())
                written.append(path)
    finally:
        show()
        for path in written:
            print(f"wrote {path}")


def _write(path: Path, text: str) -> None:
    from scgenept_rt.evaluation.errors import ReportWriteError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportWriteError(path, error.strerror or str(error)) from error
