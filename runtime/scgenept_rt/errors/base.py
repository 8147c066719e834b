"""What every error of this package derives from."""

from __future__ import annotations

from collections.abc import Sequence


def listed(items: Sequence[object], limit: int = 5) -> str:
    """Join the first `limit` items for a message and say how many more there are."""
    head = ", ".join(str(item) for item in items[:limit])
    rest = len(items) - limit
    return f"{head} and {rest:,} more" if rest > 0 else head


class ScgeneptError(Exception):
    """Base class of every error that this package raises on purpose."""
