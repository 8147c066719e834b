"""Files that a command writes besides its printed output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path


def check_report_paths(outputs: Sequence[Path | None], inputs: Sequence[Path | None]) -> None:
    """Check before minutes of prediction that the reports can be written.

    Raises
    ------
    OutputError
        If a directory is missing or in the place of a file, or if a report would replace an input or another report.
    """
    from scgenept_rt.errors.core import OutputError

    used = {path.resolve() for path in inputs if path is not None}
    written: set[Path] = set()
    for path in filter(None, outputs):
        place = path.resolve()
        if not path.parent.is_dir():
            problem = f"the directory {path.parent} does not exist"
        elif path.is_dir():
            problem = "this is a directory, expected a file"
        elif place in used:
            problem = "this is an input of the command"
        elif place in written:
            problem = "this is another report of the same command"
        else:
            written.add(place)
            continue
        raise OutputError(problem, "Choose another path", where=f"report {path}")


def write_reports(reports: Sequence[tuple[Path | None, Callable[[], str]]], show: Callable[[], None]) -> None:
    """Write the reports that have a path, then print the figures and the paths.

    In this order, as the reader of a pipe may close it (`| head`), which ends the program; the figures are printed even
    if a report cannot be written.

    Raises
    ------
    OutputError
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
    from scgenept_rt.errors.core import OutputError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"writing failed ({error.strerror or error})", "Choose another path", where=f"report {path}"
        ) from error
