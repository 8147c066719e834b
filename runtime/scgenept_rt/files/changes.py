"""Whether a file was written or replaced while it was in use."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path


def state_of(path: Path) -> Hashable:
    """Return what changes whenever a file, or one in a directory, is written or replaced; None if it is missing."""
    try:
        found = path.stat()
        entries = sorted(path.iterdir()) if path.is_dir() else []
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, *((entry.name, state_of(entry)) for entry in entries)
