"""The download directory: what is here, what is downloaded into it, and the checksums that are enforced."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from scgenept_rt.download.catalogue import Item
from scgenept_rt.download.transfer import Progress, download, shown_url
from scgenept_rt.errors import ChecksumError, DownloadError, OfflineError, UseOption
from scgenept_rt.files.cache import cache_directory
from scgenept_rt.files.durable import check_own, move_durably, sync_data, write_durably
from scgenept_rt.files.failures import failed_reads, failed_writes
from scgenept_rt.files.hashing import sha256_of
from scgenept_rt.files.locking import lock
from scgenept_rt.wording import pluralize

_STARTS = {
    ".pt": (b"PK\x03\x04", b"\x80\x02"),  # zips; pickles before PyTorch 1.6
    ".json": (b"{",),
    ".zip": (b"PK\x03\x04",),
    ".h5ad": (b"\x89HDF\r\n\x1a\n",),
}
_REMOVE = "Remove it to download it again"
_ELSEWHERE = (
    UseOption("mirror", "download from another server"),
    UseOption("offline", "see where to place a file that you got by other means", True),
)


def default_directory() -> Path:
    """Return the download directory: ``$SCGENEPT_RT_DOWNLOADS``, else the cache directory."""
    stated = os.environ.get("SCGENEPT_RT_DOWNLOADS")
    return Path(stated).expanduser() if stated else cache_directory()


class Fetched(NamedTuple):
    """A checked file, "downloaded", "unpacked", "present", or "recorded": placed by the user, and not seen before."""

    path: Path
    sha256: str
    how: str


@dataclass
class DownloadDirectory:
    """A directory of downloaded files; the checksum of each is recorded when it comes, and enforced from then on."""

    directory: Path
    """Made when something comes."""
    mirror: str | None = None
    """Address that replaces that of every server; the paths below it stay."""
    accept_changed: bool = False
    """Accept files that differ from their known checksum, and record theirs."""
    offline: bool = False
    """Download nothing: check, record and unpack what is here."""
    progress: Progress = lambda *_: None

    def find(self, item: Item) -> Path | None:
        """Return the path of an item's file if it is here, unchecked."""
        return next((self.directory / place for place in item.addresses if (self.directory / place).is_file()), None)

    def fetch(self, item: Item) -> Fetched:
        """Return an item's file, checked; download it if it is not here.

        Raises `DownloadError` if that fails or the directory cannot be used, `ChecksumError` if the file differs from
        its known checksum or is something else, and `OfflineError` if it must not be downloaded.
        """
        other = [UseOption("directory", "choose another one")]
        with (
            failed_writes(self.directory, "the download directory cannot be used", "", other, DownloadError),
            lock(self._part("lock"), on_wait=lambda holder: self.progress(f"waiting for {holder}", 0, None)),
        ):
            return self._fetch(item)

    def _fetch(self, item: Item) -> Fetched:
        found = self.find(item)
        if found is not None:
            return self._take(item, found.relative_to(self.directory).as_posix(), found, "recorded", found)
        if item.archive is None:
            return self._download(item)
        archive = self._fetch(item.archive)
        unpacked = self._unpack(item, archive.path)
        if archive.how == "downloaded":
            archive.path.unlink()
        return unpacked

    def _download(self, item: Item) -> Fetched:
        refusals = []
        for place, address in item.addresses.items():
            url = self.mirror.rstrip("/") + urlsplit(address).path if self.mirror else address
            if self.offline:
                _, known = self._records(item, place)
                placement = (
                    f"{item.name} ({item.description}) is not here, and nothing may be downloaded\n"
                    f"  get       {shown_url(url)}\n"
                    f"  place at  {self.directory / place}\n"
                    f"  checksum  {known or 'not published'}"
                )
                raise OfflineError(placement, "Place it there, then run the same command again")
            part = self._part(place)
            refused = download(url, part, Path(place).name, self.progress, _ELSEWHERE)
            if refused is None:
                return self._take(item, place, part, "downloaded", shown_url(url))
            refusals.append(f"{shown_url(url)} (HTTP {refused})")
        problem = f"{item.name} ({item.description}) is not there or is refused; tried {', '.join(refusals)}"
        raise DownloadError(problem, "See whether a browser can open the address", _ELSEWHERE)

    def _unpack(self, item: Item, archive: Path) -> Fetched:
        (place,) = item.addresses
        part, name = self._part(place), Path(place).name
        self.progress(f"unpacking {name}", 0, None)
        try:
            with zipfile.ZipFile(archive) as opened:
                members = [member for member in opened.namelist() if Path(member).name == name]
                if len(members) != 1:
                    raise zipfile.BadZipFile(f"it holds {len(members)} files called {name}, expected one")
                with opened.open(members[0]) as packed, part.open("wb") as stream:
                    shutil.copyfileobj(packed, stream, 1 << 20)
                    stream.flush()
                    sync_data(stream)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ChecksumError(f"it cannot be unpacked ({error})", _REMOVE, where=archive) from error
        return self._take(item, place, part, "unpacked", archive)

    def _take(self, item: Item, place: str, path: Path, how: str, source: object) -> Fetched:
        """Check a complete file, record its checksum, and move it to its place: nothing is there unrecorded."""
        target, size, sha256 = self.directory / place, path.stat().st_size, sha256_of(path)
        records, known = self._records(item, place)
        found, problem, options = f"sha256 {sha256}", "", []
        with path.open("rb") as stream:
            if known.startswith("md5"):
                found = f"md5 {hashlib.file_digest(stream, 'md5').hexdigest()}"
                stream.seek(0)
            if not stream.read(8).startswith(_STARTS[target.suffix]):
                problem = f"is not a {target.suffix} file"
            elif known not in ("", found) and not self.accept_changed:
                problem = f"has {found}, expected {known}"
                options = [UseOption("accept_changed", "accept the file as it is", True)]
        if problem:
            if path != target:
                path.unlink()
            again = "If a proxy damaged it, run the same command again" if how == "downloaded" else _REMOVE
            raise ChecksumError(f"{target.name} ({pluralize(size, 'byte')}) {problem}", again, options, where=source)
        if known != f"sha256 {sha256}":
            url, now = source if how == "downloaded" else None, datetime.now(UTC).isoformat(timespec="seconds")
            records[place] = {"sha256": sha256, "size": size, "url": url, "recorded": now}
            stored = {"format_version": 1, "files": records}
            write_durably(self.directory / "checksums.json", json.dumps(stored, indent=2).encode())
        elif path == target:
            how = "present"
        if path != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            move_durably(path, target)
        return Fetched(target, sha256, how)

    def _records(self, item: Item, place: str) -> tuple[dict[str, Any], str]:
        """Return what is recorded of every file, and the known checksum of one with its algorithm."""
        path = self.directory / "checksums.json"
        with failed_reads(DownloadError, path, remedy="Restore it, or remove it: files are then recorded as they are"):
            files = json.loads(path.read_text("utf-8"))["files"] if path.is_file() else {}
            if place in files:
                return files, f"sha256 {files[place]['sha256']}"
            return files, f"md5 {item.md5}" if item.md5 else ""

    def _part(self, place: str) -> Path:
        parts = self.directory / ".partial"
        check_own(parts)
        return parts / place.replace("/", "_")
