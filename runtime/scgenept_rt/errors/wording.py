"""How messages word counts, lists and values."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence


def listed(items: Sequence[object], limit: int = 5) -> str:
    """Join the first `limit` items for a message and say how many more there are."""
    head = ", ".join(str(item) for item in items[:limit])
    rest = len(items) - limit
    return f"{head} and {rest:,} more" if rest > 0 else head


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, such as "1 cell" or "1,234 cells"; `many` where the plural takes more than an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size_text(n_bytes: int) -> str:
    """Return a size in the unit that suits it, such as "512 bytes", "40.2 kB" or "1,200.00 GB"."""
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 1)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:,.{digits}f} {unit}"
    return counted(n_bytes, "byte")


def described(value: object) -> str:
    """Return what a value is, in one line: as Python writes it and its type, of a large one the type alone."""
    if value is None:
        return "None"
    if isinstance(value, (str, bytes, int, float)):
        return f"{reprlib.repr(value)} ({type(value).__name__})"
    return f"an object of type {type(value).__name__}"
