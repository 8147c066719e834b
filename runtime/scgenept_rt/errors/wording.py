"""How messages word counts and lists."""

from __future__ import annotations

from collections.abc import Sequence


def listed(items: Sequence[object], limit: int = 5) -> str:
    """Join the first `limit` items for a message and say how many more there are."""
    head = ", ".join(str(item) for item in items[:limit])
    rest = len(items) - limit
    return f"{head} and {rest:,} more" if rest > 0 else head


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, such as "1 cell" or "1,234 cells"; `many` where the plural takes more than an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
