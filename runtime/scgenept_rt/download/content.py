"""Whether a file without a known checksum is whole and of its kind, as far as its own format tells."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Literal

from scgenept_rt.download.errors import NotTheFileError
from scgenept_rt.errors import pluralize

Format = Literal["checkpoint", "vocabulary", "archive", "h5ad"]

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_PICKLE_START = b"\x80\x02"  # torch.save before version 1.6


def check_content(path: Path, form: Format, source: str) -> None:
    """Check a file; `source` names it in messages.

    Zips (and torch's checkpoints are zips) are read through: each of their parts carries a CRC.

    Raises
    ------
    NotTheFileError
        If the file is truncated, damaged or something else.
    """
    match form:
        case "vocabulary":
            problem = _vocabulary_problem(path)
        case "h5ad":
            problem = None if _starts_with(path, _HDF5_SIGNATURE) else "it is not an .h5ad (HDF5) file"
        case "archive":
            problem = _zip_problem(path)
        case "checkpoint":
            problem = None if _starts_with(path, _PICKLE_START) else _zip_problem(path, "a PyTorch checkpoint")
    if problem is not None:
        raise NotTheFileError(
            source, f"{problem} ({pluralize(path.stat().st_size, 'byte')})", "Run the command again, or see --offline"
        )


def _starts_with(path: Path, signature: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(signature)) == signature


def _zip_problem(path: Path, name: str = "a zip file") -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    # NotImplementedError and RuntimeError are zipfile's own, for a compression or encryption that it does not know.
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if _starts_with(path, b"PK\x03\x04"):
            return f"it is damaged or truncated ({error})"
        return f"it is not {name}"
    return f"it is damaged: its part {damaged} has a wrong checksum" if damaged else None


def _vocabulary_problem(path: Path) -> str | None:
    try:
        vocabulary = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        return f"it is not JSON ({error})"
    if not isinstance(vocabulary, dict) or not all(type(token) is int for token in vocabulary.values()):
        return "it is not an object of gene name to token id"
    return None if vocabulary else "it is empty"
