"""Text files: those of others, and what spreadsheets make of ours."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 29


def read_text(path: Path | None) -> str:
    """Return the text of a UTF-8 file, a pipe, or standard input (None), without the mark of UTF-8 at its beginning.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not UTF-8, or has no end that memory could hold, such as /dev/zero.
    """
    if path is None:
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES >> 20} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: byte {error.start}") from error


def csv_cell(value: Any) -> Any:
    """Return a value as a cell of a table: text that a spreadsheet would run as a formula gets a quote in front."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        with contextlib.suppress(ValueError):
            float(value)
            return value
        return f"'{value}"
    return value
