"""Where files that can be made or downloaded again are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CACHE_VARIABLE: Final = "SCGENEPT_RT_CACHE"
"""Environment variable that names the cache directory."""


def cache_directory(name: str = "") -> Path:
    """Return the cache directory, or the one of a name in it; it may not exist yet.

    It is ``$SCGENEPT_RT_CACHE``, else ``scgenept-rt`` in the user's cache directory (``~/.cache`` on Linux).
    """
    import platformdirs

    stated = os.environ.get(CACHE_VARIABLE)
    root = Path(stated).expanduser() if stated else Path(platformdirs.user_cache_dir("scgenept-rt", appauthor=False))
    return root / name
