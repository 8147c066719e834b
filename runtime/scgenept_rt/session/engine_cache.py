"""Compiled engines, kept between runs: never trusted unless they are whole, of this very graph, GPU and software.

A directory of the cache comes into being by one rename, after the engine in it was built and its files were listed with
their sha256; a build that was killed leaves nothing that a later run would read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scgenept_rt.bundle import file_sha256
from scgenept_rt.errors import CacheDirectoryError

CACHE_VARIABLE: Final = "SCGENEPT_RT_CACHE"

_LISTING = "listing.json"
_BUILDING = ".building-"
_ABANDONED_SECONDS = 24 * 3600


def cache_root(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return the user's cache directory: `SCGENEPT_RT_CACHE`, else our own below the system's usual place."""
    given = environment.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    if platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "scgenept-rt"
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "scgenept-rt"


class EngineCache:
    """The engines of one graph on one machine.

    Use as a context manager around the making of a session: `directory` is where the engine is read from, or written
    to if there was none. Leaving without an error makes what was written part of the cache.
    """

    def __init__(self, root: Path, key: Mapping[str, str]) -> None:
        """Take a root and everything that an engine depends on; other values are another engine."""
        digest = hashlib.sha256(json.dumps(dict(sorted(key.items()))).encode()).hexdigest()
        self._key = dict(key)
        self._kept = root / "engines" / digest[:32]
        self._building: Path | None = None

    @property
    def directory(self) -> Path:
        """Where the engine lies, or is to be written."""
        return self._building or self._kept

    @property
    def has_engine(self) -> bool:
        """Whether an engine is there that can be used."""
        return self._building is None

    def __enter__(self) -> EngineCache:
        """Look for the engine; make an empty directory if there is none.

        Raises
        ------
        CacheDirectoryError
            If the cache cannot be written.
        """
        if not self._is_whole():
            parent = self._kept.parent
            try:
                parent.mkdir(parents=True, exist_ok=True)
                self._building = Path(tempfile.mkdtemp(prefix=f"{self._kept.name}{_BUILDING}", dir=parent))
            except OSError as error:
                raise CacheDirectoryError(parent, CACHE_VARIABLE, error) from error
            _remove_abandoned(parent)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._building is None:
            return
        if kind is None:
            self._keep(self._building)
        else:
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
                and all(file_sha256(self._kept / name) == sha256 for name, sha256 in files.items())
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # any damage is no engine
            return False

    def _keep(self, building: Path) -> None:
        """Make a built directory part of the cache; if that fails, the session has its engine all the same."""
        try:
            files = {path.name: file_sha256(path) for path in sorted(building.iterdir())}
            if not files:
                shutil.rmtree(building, ignore_errors=True)
                return
            listing = json.dumps({"key": self._key, "files": files}, indent=2)
            (building / _LISTING).write_text(listing, encoding="utf-8")
            if self._kept.exists() and not self._is_whole():
                damaged = Path(tempfile.mkdtemp(prefix=f"{self._kept.name}{_BUILDING}", dir=self._kept.parent))
                self._kept.rename(damaged / "damaged")
                shutil.rmtree(damaged, ignore_errors=True)
            building.rename(self._kept)
        except OSError:  # a full disk, or another process that was first
            shutil.rmtree(building, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove what killed builds left, once it is old enough to be nobody's."""
    for path in parent.glob(f"*{_BUILDING}*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue
