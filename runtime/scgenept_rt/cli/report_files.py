"""Report files that a command writes in addition to what it prints."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from scgenept_rt.errors import OutputError
from scgenept_rt.files.durable import check_report_path, write_report


def check_report_paths(outputs: Sequence[Path | None], inputs: Sequence[Path | None]) -> None:
    """Check before minutes of prediction whether the reports can be written."""
    used = {os.path.realpath(path) for path in inputs if path is not None}
    written: set[str] = set()
    for path in outputs:
        if path is None:
            continue
        check_report_path(path)
        place = os.path.realpath(path)
        if place in used:
            raise OutputError("this is an input of the command", "Choose another path", where=path)
        if place in written:
            raise OutputError("another report of this command goes there too", "Choose another path", where=path)
        written.add(place)


def write_reports(reports: Sequence[tuple[Path | None, Callable[[], str]]], show: Callable[[], None]) -> None:
    """Write the reports that are asked for, then print the figures and what was written.

    In this order, as the reader of a pipe may close it (`| head`), which ends the program; and figures that were
    computed are printed even if a report cannot be written.
    """
    written = []
    try:
        for path, text in reports:
            if path is not None:
                write_report(path, text().encode())
                written.append(path)
    finally:
        show()
        for path in written:
            print(f"wrote {path}")
