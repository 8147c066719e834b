"""Compiled engines, kept between runs, and used only if they are whole and of this graph, GPU and software.

A directory of the cache is made by one rename, after the engine was built and its files were listed with their sha256;
a build that was killed leaves nothing that a later run would read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scgenept_rt.errors.core import OutputError
from scgenept_rt.files.cache import CACHE_VARIABLE
from scgenept_rt.files.hashing import sha256_of

_LISTING: Final = "listing.json"
_BUILDING: Final = ".building-"
_ABANDONED_SECONDS: Final = 24 * 3600


class EngineCache:
    """The engines of one graph on one machine.

    Use as a context manager around the opening of a session: `directory` is where the engine is read from, or written
    to if there was none. Leaving without an error makes what was written part of the cache.
    """

    def __init__(self, root: Path, key: Mapping[str, str]) -> None:
        """Take the directory of all engines, and everything that this one depends on."""
        digest = hashlib.sha256(json.dumps(dict(sorted(key.items()))).encode()).hexdigest()
        self._key = dict(key)
        self._kept = root / digest[:32]
        self._building: Path | None = None

    @property
    def directory(self) -> Path:
        """Where the engine is, or is to be written."""
        return self._building or self._kept

    @property
    def has_engine(self) -> bool:
        """Whether there is an engine that can be used."""
        return self._building is None

    def __enter__(self) -> EngineCache:
        """Look for the engine; make an empty directory if there is none.

        Raises
        ------
        OutputError
            If the cache cannot be written.
        """
        if not self._is_whole():
            root = self._kept.parent
            try:
                root.mkdir(parents=True, exist_ok=True)
                self._building = Path(tempfile.mkdtemp(prefix=f"{self._kept.name}{_BUILDING}", dir=root))
            except OSError as error:
                raise OutputError(
                    f"this cache directory for compiled engines cannot be written ({error.strerror or error})",
                    f"Set the environment variable {CACHE_VARIABLE} to a directory that can",
                    where=root,
                ) from error
            _remove_abandoned(root)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._building is None:
            return
        if kind is None:
            self._keep(self._building)
        shutil.rmtree(self._building, ignore_errors=True)
        self._building = None

    def _is_whole(self) -> bool:
        try:
            listing = json.loads((self._kept / _LISTING).read_text(encoding="utf-8"))
            files: dict[str, str] = listing["files"]
            found = {path.name for path in self._kept.iterdir()} - {_LISTING}
            return (
                listing["key"] == self._key
                and bool(files)
                and found == set(files)
                and all(sha256_of(self._kept / name) == sha256 for name, sha256 in files.items())
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged in whatever way
            return False

    def _keep(self, building: Path) -> None:
        """Make a built directory part of the cache; if that fails, the session has its engine all the same."""
        try:
            files = {path.name: sha256_of(path) for path in sorted(building.iterdir())}
            if not files:
                return
            listing = json.dumps({"key": self._key, "files": files}, indent=2)
            (building / _LISTING).write_text(listing, encoding="utf-8")
            if self._kept.exists() and not self._is_whole():
                damaged = Path(tempfile.mkdtemp(prefix=f"{self._kept.name}{_BUILDING}", dir=self._kept.parent))
                self._kept.rename(damaged / "damaged")
                shutil.rmtree(damaged, ignore_errors=True)
            building.rename(self._kept)
        except OSError:  # a full disk, or another process that was first
            return


def _remove_abandoned(root: Path) -> None:
    """Remove what killed builds left, once it is old enough not to be in use."""
    for path in root.glob(f"*{_BUILDING}*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue
