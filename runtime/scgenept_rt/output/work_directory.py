"""The directory beside an output that holds it while it is written: its lock and its journal.

The journal, written once when a run begins, says what is to be written and with which settings. How many rows are safe
is in the file of their checksums, which lies beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from scgenept_rt.errors import OutputBusyError, OutputError, PartialOutputError, ScgeneptError, UseOption
from scgenept_rt.files.durable import check_own, write_durably
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.locking import Busy, lock
from scgenept_rt.wording import join_limited, pluralize

JOURNAL_NAME = "journal.json"
CHECKSUMS_NAME = "checksums.bin"
FORMAT_VERSION = 3
_LONGEST_VALUE = 60
_WORDS = {
    "n_rows": "number of rows",
    "columns": "columns of obs",
    "row_names_sha256": "names of the rows",
    "gene_names_sha256": "genes",
    "clip_at_zero": "negative values set to zero",
    "manifest_digest": "bundle",
    "gpu": "GPU model",
}
"""Names of journal entries in messages, where their own are unclear."""
_DIGEST = re.compile("[0-9a-f]{64}")

DISCARD = UseOption("overwrite", "discard it and start over", True)


def partial_path(target: Path) -> Path:
    """Return the work directory of an output: its own path with ``.partial`` appended."""
    return target.with_name(f"{target.name}.partial")


def data_path(target: Path) -> Path:
    """Return the file or directory that becomes the output."""
    return partial_path(target) / f"data{target.suffix.lower()}"


class WorkDirectory:
    """The work directory of one output, locked against other writers until it is released.

    Raises `OutputBusyError` if another process, or another writer of this one, has the lock.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = partial_path(target)
        self.data = data_path(target)
        self.replaced = self.path / f"replaced{target.suffix.lower()}"  # a .zarr directory that the output replaces
        self.released = False
        self._held = ExitStack()
        try:
            check_own(self.path)
            self._held.enter_context(lock(self.path / "lock"))
        except Busy as busy:
            problem = f"another process is writing it now ({busy})"
            raise OutputBusyError(problem, "Wait for it, or choose another path", where=target) from None
        except (PermissionError, NotADirectoryError) as error:
            problem = f"{error.filename} cannot be used: {error.strerror}"
            raise OutputError(problem, "Remove it, or choose another path", where=target) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Release the lock after an error; a directory in which no run was begun goes."""
        if kind is not None:
            if not self.begun:
                self.remove()
            self.release()

    @property
    def begun(self) -> bool:
        """Whether a run left a journal here, readable or not."""
        return (self.path / JOURNAL_NAME).exists()

    def clear(self) -> None:
        """Delete what an earlier run left; the lock and files of others stay."""
        # the journal first: without it, whatever a kill leaves here counts as nothing
        for name in (JOURNAL_NAME, CHECKSUMS_NAME):
            for path in (self.path / name, *self.path.glob(f".{name}.*.new")):
                path.unlink(missing_ok=True)
        for entry in (self.data, self.replaced):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the work directory and release the lock, unless it was released before."""
        if self.released:
            return
        self.clear()
        for name in ("lock", "lock.owner"):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it may hold a file that is not ours
            self.path.rmdir()
        self.release()

    def release(self) -> None:
        """Release the lock; what is in the directory stays."""
        self._held.close()
        self.released = True


class Damage(ScgeneptError):  # noqa: N818 - never shown: the run starts anew, or an error of its own names the damage
    """What a killed run left cannot be continued; the message says why."""


@dataclass(frozen=True)
class Journal:
    """What a partial output was begun with; a run is only continued with the same settings and table."""

    settings: Mapping[str, Any]
    table: Mapping[str, Any]
    """`TableSpec.fingerprint` of the table."""
    places: Mapping[str, Sequence[Any]]
    """The `Place` of each array."""
    checksum: int
    """The checksum of all that is not rows."""
    format_version: int = FORMAT_VERSION

    def save(self, directory: Path) -> None:
        """Write the journal in `directory`, with a checksum of itself."""
        content = dataclasses.asdict(self)
        write_durably(directory / JOURNAL_NAME, json.dumps({**content, "sha256": _sha256(content)}).encode())

    @classmethod
    def load(cls, target: Path) -> Journal | None:
        """Read the journal of an output, None if there is none; raise `Damage`, or an `OutputError`."""
        path = partial_path(target) / JOURNAL_NAME
        if not path.is_file():
            return None
        with failed_reads(OutputError, target, str(path)):
            data = path.read_bytes()
        with failed_reads(Damage, "", JOURNAL_NAME, ""):
            content = json.loads(data)
            stated, version = content.pop("sha256", None), content["format_version"]
            intact = stated == _sha256(content)
            if version != FORMAT_VERSION and (intact or stated is None):
                problem = f"an interrupted run of another release left a partial output in {path.parent}"
                raise PartialOutputError(problem, "Continue it with that release", [DISCARD], where=target)
            if not intact:
                raise Damage(f"{JOURNAL_NAME} does not match its own checksum")
            return cls(**content)

    def check_same(self, settings: Mapping[str, Any], table: Mapping[str, Any], target: Path) -> None:
        """Raise `PartialOutputError` unless the settings and the table are those of this journal."""
        # The table follows from the settings: it adds something only where these are the same.
        found = list(differences(self.settings, settings)) or list(differences(self.table, table))
        if found:
            raise PartialOutputError(
                "the interrupted run that left part of it had other settings:\n  " + "\n  ".join(found),
                "Resume with the previous settings",
                [DISCARD],
                where=target,
            )


def plain(value: Any) -> Any:
    """Return a value as it is after a round trip through JSON, so that settings compare equal to stored ones."""
    return json.loads(json.dumps(value, default=lambda one: one.tolist() if hasattr(one, "tolist") else str(one)))


def run_digest(settings: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what `Journal.check_same` compares; a finished output records it."""
    return _sha256([settings, table])


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()


def digests_of_lists(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the length and the start of the SHA-256 of each list, which may be long."""
    return {
        key: f"{len(value):,} (sha256 {_sha256(value)[:12]})" if isinstance(value, list) else value
        for key, value in plain(settings).items()
    }


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "", words: tuple[str, str] = ("before", "now")
) -> Iterator[str]:
    """Yield in words what differs between two settings."""
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        name = prefix + _WORDS.get(key, key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{name}.", words)
        elif isinstance(old, list) and isinstance(new, list):
            yield f"{name}: {_list_text(old, new)} {words[0]}, {_list_text(new, old)} {words[1]}"
        else:
            yield f"{name}: {_text(old)} {words[0]}, {_text(new)} {words[1]}"


def _list_text(entries: list[Any], other: list[Any]) -> str:
    """Return the length of a list, and its entries from the first that differs from the other list."""
    start = next((i for i, (a, b) in enumerate(zip(entries, other, strict=False)) if a != b), len(other))
    shown = join_limited([_text(entry) for entry in entries[start:]], limit=3)
    where = f", from number {start + 1:,} on: {shown}" if shown else ""
    return f"{pluralize(len(entries), 'entry', 'entries')}{where}"


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"sha256 {value[:12]}..."
    text = value if isinstance(value, str) else json.dumps(plain(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
