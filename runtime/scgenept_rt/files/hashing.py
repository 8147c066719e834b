"""Checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Return the checksum of a file in hexadecimal, by an algorithm of `hashlib`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
