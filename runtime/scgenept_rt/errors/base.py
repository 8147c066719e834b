"""What every error of this package derives from."""

from __future__ import annotations


class ScgeneptError(Exception):
    """Base class of every error that this package raises on purpose."""
