"""Compiled engines, kept between runs, and used only if they are whole and of this graph, GPU and software."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scgenept_rt.files.cache import CACHE_VARIABLE
from scgenept_rt.files.durable import check_own
from scgenept_rt.files.failures import failed_writes
from scgenept_rt.files.hashing import sha256_of

_LISTING: Final = "listing.json"
_BUILDING: Final = ".building-"
_ABANDONED_SECONDS: Final = 24 * 3600


@contextmanager
def engine_directory(root: Path, key: Mapping[str, str]) -> Iterator[tuple[Path, bool]]:
    """Yield the directory of an engine, and whether the engine is there; otherwise build it there within the context.

    Leaving without an error makes what was built part of the cache, by one rename: a build that was killed leaves
    nothing that a later run would read.

    `root` is the directory of all engines, `key` everything that the engine depends on. Raises `OutputError` if the
    cache cannot be written.
    """
    kept = root / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    remedy = f"Set the environment variable {CACHE_VARIABLE} to a directory that can"
    with failed_writes(root, "this cache directory for compiled engines cannot be written", remedy):
        check_own(root)
        check_own(kept)
        whole = _is_whole(kept)
        if not whole:
            root.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=f"{kept.name}{_BUILDING}", dir=root))
    if whole:
        yield kept, True
        return
    _remove_abandoned(root)
    try:
        yield building, False
        files = _checksums(building)
        with contextlib.suppress(OSError):  # a full disk, or another process was first: the session has its engine
            if files and not _is_whole(kept):
                listing = json.dumps({"key": dict(key), "files": files}, indent=2)
                (building / _LISTING).write_text(listing, encoding="utf-8")
                shutil.rmtree(kept, ignore_errors=True)
                building.rename(kept)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _is_whole(kept: Path) -> bool:
    try:
        files = json.loads((kept / _LISTING).read_text(encoding="utf-8"))["files"]
        return bool(files) and files == _checksums(kept)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _checksums(directory: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in directory.iterdir() if path.name != _LISTING}


def _remove_abandoned(root: Path) -> None:
    """Remove what killed builds left a day ago or earlier: younger ones may be in use."""
    for path in root.glob(f"*{_BUILDING}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
