"""What a killed run left."""

from __future__ import annotations

import json
from pathlib import Path

from scgenept_rt.output.work_directory import partial_path


def n_committed(out: Path) -> int:
    """Rows of a partial output that are safe, of a .zarr too."""
    directory = partial_path(out)
    try:
        piece_rows = json.loads((directory / "journal.json").read_bytes())["storage"]["piece_rows"]
        n_pieces = (directory / "checksums.bin").stat().st_size // 4
        waiting = directory / "waiting.bin"
        n_waiting = int.from_bytes(waiting.read_bytes()[:8], "little") if waiting.exists() else 0
    except FileNotFoundError:  # nothing is left, or it has just been finished
        return 0
    return max(n_pieces * piece_rows, n_waiting)
