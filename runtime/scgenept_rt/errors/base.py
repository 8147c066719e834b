"""Moved to core.py."""

from scgenept_rt.errors.core import ScgeneptError

__all__ = ["ScgeneptError"]
