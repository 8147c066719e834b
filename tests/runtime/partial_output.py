"""Outputs, and what a killed run left of one."""

from __future__ import annotations

from pathlib import Path

from scgenept_rt.output.work_directory import partial_path


def n_committed(out: Path) -> int:
    """Rows of a partial output that are safe."""
    try:
        return (partial_path(out) / "checksums.bin").stat().st_size // 4
    except FileNotFoundError:  # nothing is left, or it has just been finished
        return 0


def content(path: Path) -> dict[str, bytes]:
    """The files of an output by their paths in it."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}
