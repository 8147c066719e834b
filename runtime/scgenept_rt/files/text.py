"""Text files: those of others, and our own for spreadsheets and programs."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_MOST_BYTES = 1 << 29


def read_text(path: Path | None) -> str:
    """Return the text of a UTF-8 file, a pipe, or standard input (None), without the mark of UTF-8 at its beginning.

    Raises ValueError if it is not UTF-8, or has no end that memory could hold, such as /dev/zero.
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


def json_text(value: Any, indent: int = 2) -> str:
    """Return a value as JSON: arrays are lists, and what is not a number, or infinite, is null."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int)) or value is None else str(value)


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV, with `csv_cell` for its cells."""
    return str(table.map(csv_cell).to_csv(index=False, lineterminator="\n"))


def csv_cell(value: Any) -> Any:
    """Return a value as a cell of a table: text that a spreadsheet would run as a formula gets a quote in front."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        with contextlib.suppress(ValueError):
            float(value)
            return value
        return f"'{value}"
    return value
