"""The journal of a partial output: what was to be written, with which settings, and how much of it is safe."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from scgenept_rt.errors import PartialDamagedError, ResumeMismatchError, join_limited, pluralize
from scgenept_rt.files.durable import write_durably

JOURNAL_NAME = "journal.json"
FORMAT_VERSION = 1
_LONGEST_VALUE = 60
_WORDS = {
    "n_rows": "number of rows",
    "columns": "columns of obs",
    "row_names_sha256": "names of the rows",
    "gene_names_sha256": "genes",
    "clip_at_zero": "negative values set to zero",
    "manifest_digest": "bundle",
}
"""What the entries of a journal are called in messages, where their own names say little."""
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Journal:
    """State of a partial output; replaced as a whole, atomically, by every commit.

    Attributes
    ----------
    n_rows, n_committed
        Rows in all, and rows that are safely on disk.
    settings
        What the caller computes from; a run may continue this one only with the same.
    table
        `TableSpec.fingerprint` of the table.
    storage
        What the format needs to continue (offsets in the HDF5 file, rows of a chunk).
    finishing
        True once all rows are safe and the file is about to get its name.
    """

    n_rows: int
    n_committed: int
    settings: Mapping[str, Any]
    table: Mapping[str, Any]
    storage: Mapping[str, Any]
    finishing: bool = False
    format_version: int = FORMAT_VERSION

    def save(self, directory: Path) -> None:
        """Replace the journal in `directory`; at any moment either the old or the new one is there, whole."""
        write_durably(directory / JOURNAL_NAME, json.dumps(dataclasses.asdict(self)).encode())

    @classmethod
    def load(cls, directory: Path, target: Path) -> Journal | None:
        """Read the journal in `directory`, None if there is none; `target` is named in errors.

        Raises
        ------
        PartialDamagedError
            If it is empty, is not a journal, or was written by a newer release.
        """
        path = directory / JOURNAL_NAME
        try:
            fields = json.loads(path.read_bytes())
            journal = cls(**fields)
            readable = journal.format_version == FORMAT_VERSION and 0 <= journal.n_committed <= journal.n_rows
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise PartialDamagedError(target, directory, f"{JOURNAL_NAME} is not a journal ({error})") from error
        if not readable:
            raise PartialDamagedError(
                target,
                directory,
                f"{JOURNAL_NAME} has format {journal.format_version}, this release reads {FORMAT_VERSION}, "
                f"and states {journal.n_committed} of {pluralize(journal.n_rows, 'row')}",
            )
        return journal

    def check_same(self, settings: Mapping[str, Any], table: Mapping[str, Any], target: Path) -> None:
        """Raise `ResumeMismatchError` unless the settings and the table are those of this journal."""
        # What a table looks like follows from the settings: it says more only where these are the same.
        differences = list(_differences(self.settings, settings)) or list(_differences(self.table, table))
        if differences:
            raise ResumeMismatchError(target, differences)


def plain(value: Any) -> Any:
    """Return a value as it is after a round trip through JSON, so that settings compare equal to stored ones."""
    return json.loads(json.dumps(value, default=_json_form))


def run_digest(settings: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return the sha256 of what a `Journal` compares: an output records it, so that a finished run is known again."""
    return hashlib.sha256(json.dumps(plain([settings, table]), sort_keys=True).encode()).hexdigest()


def _json_form(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a setting of type {type(value).__name__} cannot be stored: {value!r}")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        name = _WORDS.get(key, key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif isinstance(old, list) and isinstance(new, list):
            yield f"{prefix}{name}", _list_text(old, new), _list_text(new, old)
        else:
            yield f"{prefix}{name}", _text(old), _text(new)


def _list_text(entries: list[Any], other: list[Any]) -> str:
    """Say how long a list is and show it from the first entry in which it differs from the other."""
    start = next((i for i, (a, b) in enumerate(zip(entries, other, strict=False)) if a != b), len(other))
    shown = join_limited([_text(entry) for entry in entries[start:]], limit=3)
    where = f", from number {start + 1:,} on: {shown}" if shown else ""
    return f"{pluralize(len(entries), 'entry', 'entries')}{where}"


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"sha256 {value[:12]}..."
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
