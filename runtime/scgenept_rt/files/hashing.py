"""Checksums of files, and whether one was written or replaced while it was in use."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_of(path: Path) -> Hashable:
    """Return what changes whenever a file, or one in a directory, is written or replaced; None if it is missing."""
    try:
        found = path.stat()
        entries = sorted(path.iterdir()) if path.is_dir() else []
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, *((entry.name, state_of(entry)) for entry in entries)
