"""Moved to core.py."""

from scgenept_rt.errors.core import describe, format_size, join_limited, pluralize

__all__ = ["describe", "format_size", "join_limited", "pluralize"]
