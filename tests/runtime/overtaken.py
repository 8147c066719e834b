"""What another process does between two calls, arranged."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def overtake_mkdir(monkeypatch: pytest.MonkeyPatch, directory: Path) -> list[str]:
    """Let the first mkdir of a directory find it there, and nobody after: it was removed just then.

    Returns a list that holds the path once that has happened.
    """
    mkdir, overtaken = os.mkdir, []

    def first_finds_it(path: Any, *arguments: Any, **options: Any) -> None:
        if not overtaken and Path(path) == directory:
            overtaken.append(str(path))
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", first_finds_it)
    return overtaken
