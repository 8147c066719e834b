"""Checksums: those that are published, and the file in the download directory that records the others."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from scgenept_rt.download.errors import ChecksumFileError, shown_url
from scgenept_rt.download.locking import exclusive_file
from scgenept_rt.errors import pluralize

CHECKSUMS_NAME = "checksums.json"
_FORMAT_VERSION = 1
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Expected:
    """A checksum that a file must have, and where it is known from."""

    algorithm: str
    digest: str
    size: int | None
    known_from: str

    def describe(self) -> str:
        """Return checksum and size in words."""
        size = f" and {pluralize(self.size, 'byte')}" if self.size is not None else ""
        return f"{self.algorithm} {self.digest}{size}"


@dataclass(frozen=True)
class Record:
    """The checksum of a file, recorded when it first came or was found."""

    sha256: str
    size: int
    url: str | None
    recorded: str


def digest(path: Path, algorithm: str = "sha256", update: Callable[[int, int], None] | None = None) -> str:
    """Return the checksum of a file in hexadecimal."""
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    total, done = path.stat().st_size, 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            hasher.update(block)
            done += len(block)
            if update is not None:
                update(done, total)
    return hasher.hexdigest()


class Checksums:
    """The recorded checksums of a download directory: `checksums.json` in it, keyed by path below it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / CHECKSUMS_NAME

    def read(self) -> Mapping[str, Record]:
        """Return every record.

        Raises
        ------
        ChecksumFileError
            If the file is there but does not hold records.
        """
        try:
            stored = json.loads(self.path.read_text("utf-8"))
            if stored["format_version"] != _FORMAT_VERSION:
                raise ChecksumFileError(
                    self.path, f"format_version {stored['format_version']!r}, expected {_FORMAT_VERSION}"
                )
            return {place: Record(**fields) for place, fields in stored["files"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ChecksumFileError(self.path, error.strerror or "it cannot be read") from error
        except ChecksumFileError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ChecksumFileError(self.path, str(error) or type(error).__name__) from error

    def expected(self, place: str) -> Expected | None:
        """Return what the file at this place must be, None if it never came."""
        record = self.read().get(place)
        if record is None:
            return None
        return Expected("sha256", record.sha256, record.size, f"recorded in {self.path} on {record.recorded[:10]}")

    def record(self, place: str, sha256: str, size: int, url: str | None) -> None:
        """Record a file, for good before this returns; other processes' records are kept."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with exclusive_file(self.path.with_name(f".{CHECKSUMS_NAME}.lock")):
            records = dict(self.read())
            records[place] = Record(sha256, size, shown_url(url) if url else None, now)
            files = {name: asdict(records[name]) for name in sorted(records)}
            text = json.dumps({"format_version": _FORMAT_VERSION, "files": files}, indent=2) + "\n"
            written = self.path.with_name(f".{CHECKSUMS_NAME}.new")
            with written.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            written.replace(self.path)
