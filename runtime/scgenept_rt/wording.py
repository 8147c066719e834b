"""How messages word counts, sizes, times, lists and values."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence


def reason(error: BaseException) -> str:
    """Return what a library says went wrong, in one line."""
    text = str(error)
    if isinstance(error, KeyError) and error.args:  # which would be quoted
        text = str(error.args[0]) if " " in str(error.args[0]) else f"{error.args[0]} is missing"
    return getattr(error, "strerror", None) or next(iter(text.strip().splitlines()), type(error).__name__)


def join_limited(items: Sequence[object], limit: int = 5) -> str:
    """Join the first `limit` items for a message and say how many more there are."""
    head = ", ".join(str(item) for item in items[:limit])
    rest = len(items) - limit
    return f"{head} and {rest:,} more" if rest > 0 else head


def printable(text: str) -> str:
    """Return a text with its control characters escaped, which could rewrite what a terminal shows."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def pluralize(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, such as "1 cell" or "1,234 cells"; `many` where the plural takes more than an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def format_size(n_bytes: int) -> str:
    """Return a size in the unit that suits it, such as "512 bytes", "40.2 kB" or "1,200.00 GB"."""
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 1)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:,.{digits}f} {unit}"
    return pluralize(n_bytes, "byte")


def format_duration(seconds: float) -> str:
    """Return a time such as "14:05 h", "25 min" or "9 s"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 3570:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,}:{minutes:02} h"


def describe(value: object) -> str:
    """Return what a value is, in one line: as Python writes it and its type, of a large one the type alone."""
    if value is None:
        return "None"
    if isinstance(value, (str, bytes, int, float)):
        return f"{reprlib.repr(value)} ({type(value).__name__})"
    return f"an object of type {type(value).__name__}"
