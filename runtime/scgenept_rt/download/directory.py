"""The download directory: what is here, what is downloaded into it, and the checksums that are enforced."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

from scgenept_rt.download.catalogue import Item
from scgenept_rt.download.transfer import ELSEWHERE, Listener, download, new_session, shown_url
from scgenept_rt.errors import ChecksumError, DownloadError, OfflineError, UseOption
from scgenept_rt.files.cache import cache_directory
from scgenept_rt.files.durable import check_own, move_durably, sync_file, write_durably
from scgenept_rt.files.failures import failed_reads, failed_writes
from scgenept_rt.files.hashing import digest_of, sha256_of
from scgenept_rt.files.locking import lock
from scgenept_rt.wording import pluralize

_STARTS = {
    ".pt": (b"PK\x03\x04", b"\x80\x02"),  # zips; pickles before PyTorch 1.6
    ".json": (b"{",),
    ".zip": (b"PK\x03\x04",),
    ".h5ad": (b"\x89HDF\r\n\x1a\n",),
}
_REMOVE = "Remove it to download it again"


def default_directory() -> Path:
    """Return the download directory: ``$SCGENEPT_RT_DOWNLOADS``, else the cache directory."""
    stated = os.environ.get("SCGENEPT_RT_DOWNLOADS")
    return Path(stated).expanduser() if stated else cache_directory()


@dataclass(frozen=True)
class Fetched:
    """A file that is here and checked; it had been placed here by the user if its checksum was just ``recorded``."""

    path: Path
    sha256: str
    how: Literal["downloaded", "present", "recorded", "unpacked"]


class DownloadDirectory:
    """A directory of downloaded files; the checksum of each is recorded when it comes, and enforced from then on.

    Parameters
    ----------
    directory
        The directory; made when something comes.
    mirror
        Address that replaces that of every server; the paths below it stay.
    accept_changed
        Accept files that differ from their known checksum, and record theirs.
    offline
        Download nothing: check, record and unpack what is here.
    listener
        Called with messages and progress.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        mirror: str | None = None,
        accept_changed: bool = False,
        offline: bool = False,
        listener: Listener | None = None,
    ) -> None:
        self.path = Path(directory).absolute()
        self._mirror = mirror
        self._accept_changed = accept_changed
        self._offline = offline
        self._listener = listener or Listener()
        self._session = new_session()

    def find(self, item: Item) -> Path | None:
        """Return the path of an item's file if it is here, unchecked."""
        return next((self.path / place for place in item.places if (self.path / place).is_file()), None)

    def records(self) -> dict[str, dict[str, Any]]:
        """Return sha256, size, url and date of every recorded file, by path below the directory."""
        path = self.path / "checksums.json"
        remedy = "Restore it from a copy, or remove it: files in its directory are then recorded as they are"
        with failed_reads(DownloadError, path, remedy=remedy):
            files = json.loads(path.read_text("utf-8"))["files"] if path.is_file() else {}
            for place, record in files.items():
                if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
                    raise ValueError(f"{place} is no place in its directory")
                if not isinstance(record["sha256"], str) or not isinstance(record["size"], int):
                    raise ValueError(f"the record of {place} has no checksum")
                record["recorded"][:10]
            return dict(files)

    def fetch(self, item: Item) -> Fetched:
        """Return an item's file, checked; download it if it is not here.

        Raises
        ------
        DownloadError
            If it cannot be downloaded, or the directory cannot be used.
        ChecksumError
            If it differs from its known checksum, or is something else.
        OfflineError
            If it is not here and must not be downloaded.
        """
        wait = f"{self.path} is in use; waiting for"
        other = [UseOption("directory", "choose another one")]
        with (
            failed_writes(self.path, "the download directory cannot be used", "", other, DownloadError),
            lock(self._part("lock"), on_wait=lambda holder: self._listener.say(f"{wait} {holder}")),
        ):
            return self._fetch(item)

    def _fetch(self, item: Item) -> Fetched:
        found = self.find(item)
        if found is not None:
            place = found.relative_to(self.path).as_posix()
            record = self.records().get(place)
            sha256 = self._verified(found, place, item, found, _REMOVE)
            if record is not None and record["sha256"] == sha256:
                return Fetched(found, sha256, "present")
            self._record(found, place, sha256, None)
            return Fetched(found, sha256, "recorded")
        if item.archive is None:
            return self._download(item)
        archive = self._fetch(item.archive)
        unpacked = self._unpack(item, archive.path)
        if archive.how == "downloaded":
            archive.path.unlink()
        return unpacked

    def _download(self, item: Item) -> Fetched:
        host = (self._mirror or item.host).rstrip("/")
        urls = [f"{host}/{quote(key)}" for key in item.keys]  # S3 reads a plain + as a space
        if self._offline:
            known = self._known_checksum(item.places[0], item)
            placement = (
                f"{item.name} ({item.description}) is not here, and nothing may be downloaded\n"
                f"  get       {shown_url(urls[0])}\n"
                f"  place at  {self.path / item.places[0]}\n"
                f"  checksum  {f'{known[0]} {known[1]} ({known[2]})' if known else 'not published'}"
            )
            raise OfflineError(placement, "Place it there, then run the same command again")
        refusals = []
        for url, place in zip(urls, item.places, strict=True):
            part, shown = self._part(place), shown_url(url)
            refused = download(url, part, self._session, self._listener, PurePosixPath(place).name)
            if refused is None:
                return self._keep(item, part, place, shown, "If a proxy damaged it, run the same command again", shown)
            refusals.append(f"{shown} (HTTP {refused})")
            if not refused.startswith(("403", "404")):  # S3 answers 403 for a file that does not exist
                break
        problem = f"{item.name} ({item.description}) is not there or is refused; tried {', '.join(refusals)}"
        raise DownloadError(problem, "See whether a browser can open the address", ELSEWHERE)

    def _unpack(self, item: Item, archive: Path) -> Fetched:
        (place,) = item.places
        part, name = self._part(place), PurePosixPath(place).name
        self._listener.say(f"unpacking {name}")
        try:
            with zipfile.ZipFile(archive) as opened:
                members = [member for member in opened.namelist() if PurePosixPath(member).name == name]
                if len(members) != 1:
                    raise zipfile.BadZipFile(f"it holds {len(members)} files called {name}, expected one")
                with opened.open(members[0]) as packed, part.open("wb") as stream:
                    shutil.copyfileobj(packed, stream, 1 << 20)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ChecksumError(f"it cannot be unpacked ({error})", _REMOVE, where=archive) from error
        sync_file(part)
        return self._keep(item, part, place, archive, _REMOVE)

    def _keep(self, item: Item, part: Path, place: str, source: object, remedy: str, url: str | None = None) -> Fetched:
        """Check and record a complete file, then move it to its place: nothing is there unrecorded."""
        target = self.path / place
        try:
            sha256 = self._verified(part, place, item, source, remedy)
        except ChecksumError:
            part.unlink()
            raise
        self._record(part, place, sha256, url)
        target.parent.mkdir(parents=True, exist_ok=True)
        move_durably(part, target)
        return Fetched(target, sha256, "downloaded" if url else "unpacked")

    def _verified(self, path: Path, place: str, item: Item, source: object, remedy: str) -> str:
        """Return the SHA-256 of a file once it has its known checksum, or at least is of its kind."""
        sha256, size = sha256_of(path), pluralize(path.stat().st_size, "byte")
        known = None if self._accept_changed else self._known_checksum(place, item)
        if known is not None:
            algorithm, expected, known_from = known
            found = sha256 if algorithm == "sha256" else digest_of(path, algorithm)
            if found != expected:
                problem = f"{Path(place).name} has {algorithm} {found} ({size}), expected {expected} ({known_from})"
                accept = UseOption("accept_changed", "accept the file as it is", True)
                raise ChecksumError(problem, remedy, [accept], where=source)
            return sha256
        with path.open("rb") as stream:
            if not stream.read(8).startswith(_STARTS[Path(place).suffix]):
                problem = f"{Path(place).name} is not a {Path(place).suffix} file ({size})"
                raise ChecksumError(problem, remedy, where=source)
        return sha256

    def _known_checksum(self, place: str, item: Item) -> tuple[str, str, str] | None:
        """Return algorithm, checksum, and size and origin in words."""
        record = self.records().get(place)
        if record is not None:
            return "sha256", record["sha256"], f"{record['size']:,} bytes, recorded on {record['recorded'][:10]}"
        return None if item.md5 is None else ("md5", item.md5, f"{item.size:,} bytes, published")

    def _record(self, path: Path, place: str, sha256: str, url: str | None) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"sha256": sha256, "size": path.stat().st_size, "url": url, "recorded": now}
        stored = {"format_version": 1, "files": {**self.records(), place: record}}
        write_durably(self.path / "checksums.json", json.dumps(stored, indent=2).encode())

    def _part(self, place: str) -> Path:
        part = self.path / ".partial" / place.replace("/", "_")
        check_own(part.parent)
        check_own(part)
        return part
