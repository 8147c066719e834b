"""The download directory: what is here, what is fetched into it, and what is refused."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scgenept_rt.download.addresses import find_checkpoint, url_of
from scgenept_rt.download.archive import extract_member
from scgenept_rt.download.catalogue import Item
from scgenept_rt.download.checksums import Checksums, Expected, digest
from scgenept_rt.download.content import Format, check_content
from scgenept_rt.download.errors import (
    DownloadDirectoryError,
    LocalFileChangedError,
    MissingOfflineError,
    NotTheFileError,
    SeveralCheckpointsError,
    UpstreamChangedError,
    shown_url,
)
from scgenept_rt.download.locking import work_directory
from scgenept_rt.download.requesting import new_session
from scgenept_rt.download.retrying import RetryPolicy
from scgenept_rt.download.transfer import Listener, ResumingDownloader, SilentListener
from scgenept_rt.errors import ScgeneptError, pluralize

DIRECTORY_VARIABLE = "SCGENEPT_RT_DOWNLOADS"


def default_directory() -> Path:
    """Return the download directory: $SCGENEPT_RT_DOWNLOADS, else scgenept-rt in the user's cache directory."""
    import pooch

    stated = os.environ.get(DIRECTORY_VARIABLE)
    return Path(stated).expanduser() if stated else Path(pooch.os_cache("scgenept-rt"))


@dataclass(frozen=True)
class Fetched:
    """A file that is here, whole and checked.

    Attributes
    ----------
    how
        ``downloaded``; ``present``: its checksum was known and is right; ``recorded``: it lay there, its checksum is
        recorded from now on; ``unpacked``.
    """

    path: Path
    sha256: str
    size: int
    how: Literal["downloaded", "present", "recorded", "unpacked"]


class DownloadDirectory:
    """A directory of downloaded files whose checksums are recorded, and enforced from then on.

    Parameters
    ----------
    path
        The directory; made when something comes.
    mirror
        Address that takes the place of every host, the paths below it staying as they are.
    accept_changed
        Take files that differ from their known checksum, and record them anew.
    offline
        Fetch nothing: check, record and unpack what lies here.
    retry
        When to try again.
    listener
        Is told the progress.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        mirror: str | None = None,
        accept_changed: bool = False,
        offline: bool = False,
        retry: RetryPolicy | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.checksums = Checksums(self.path)
        self._mirror = mirror
        self._accept_changed = accept_changed
        self._offline = offline
        self._retry = retry or RetryPolicy()
        self._listener = listener or SilentListener()
        self._session = new_session()

    def find(self, item: Item) -> Path | None:
        """Return the file of an item if it lies here, unchecked; asks no server."""
        place = self._checkpoint_here(item) if item.kind == "checkpoint" else item.place
        if place is None or not (self.path / place).is_file():
            return None
        return self.path / place

    def recorded_size(self, item: Item) -> int | None:
        """Return the size in bytes of what is downloaded, as recorded here, else as published."""
        wanted = item.archive or item.place
        for place, record in self.checksums.read().items():
            if place == wanted or (item.kind == "checkpoint" and place.startswith(item.prefix)):
                return record.size
        return item.size

    def fetch(self, item: Item) -> Fetched:
        """Return an item's file, whole and checked: the one that is here, else downloaded now.

        Raises
        ------
        DownloadError
            If it cannot be had, or differs from its known checksum.
        ChecksumFileError
            If the recorded checksums cannot be read.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK):
                return self._fetch_read_only(item)
            if item.kind == "dataset":
                return self._fetch_dataset(item)
            place = key = item.place
            if item.kind == "checkpoint":
                place = key = self._checkpoint_place(item)
            form: Format = "checkpoint" if item.kind == "checkpoint" else "vocabulary"
            return self._fetch_file(item, key, place, form)
        except ScgeneptError:
            raise
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise DownloadDirectoryError(self.path, f"it cannot be used: {error.strerror or error}{where}") from error

    def _fetch_read_only(self, item: Item) -> Fetched:
        """Check a file in a directory that others keep (one shared by a group): nothing is locked or recorded."""
        path = self.find(item)
        expected = self.checksums.expected(path.relative_to(self.path).as_posix()) if path else None
        if path is None or expected is None:
            raise DownloadDirectoryError(self.path, f"it is not writable, and holds no recorded file of {item.name}")
        if (size := path.stat().st_size) != expected.size or digest(path) != expected.digest:
            raise LocalFileChangedError(
                path, expected.describe(), expected.known_from, f"it has {pluralize(size, 'byte')}"
            )
        return Fetched(path, expected.digest, size, "present")

    # --- which checkpoint ---------------------------------------------------------------------------------------------

    def _checkpoint_here(self, item: Item) -> str | None:
        """Return the place of the checkpoint that lies here, or came once, None if none ever did."""
        here = sorted(path.name for path in (self.path / item.prefix).glob("best_model_*.pt") if path.is_file())
        recorded = [place for place in self.checksums.read() if place.startswith(item.prefix)]
        places = [item.prefix + name for name in here]
        for choice in (
            [place for place in recorded if place in places],
            [key for key in item.keys if key in places],
            places,
            # A file that came under another name would never be compared with what was recorded.
            [] if self._accept_changed else recorded,
        ):
            if len(choice) > 1 and choice is places:
                raise SeveralCheckpointsError(str(self.path / item.prefix), here)
            if choice:
                return choice[0]
        return None

    def _checkpoint_place(self, item: Item) -> str:
        known = self._checkpoint_here(item)
        if known is not None:
            return known
        if self._offline:
            raise MissingOfflineError([self._placement(item, item.keys[0], item.keys[0])])
        key = find_checkpoint(item, self._mirror, self._session, self._retry, self._listener.say)
        self._listener.say(f"{item.name}: taking {key.rpartition('/')[2]}")
        return key

    # --- one file -----------------------------------------------------------------------------------------------------

    def _expected(self, place: str, item: Item) -> Expected | None:
        recorded = self.checksums.expected(place)
        if recorded is None and item.md5 is not None:
            return Expected("md5", item.md5, item.size, "published with the data set")
        return recorded

    def _fetch_file(self, item: Item, key: str, place: str, form: Format) -> Fetched:
        target = self.path / place
        with self._working_on(place) as work:
            expected = self._expected(place, item)
            if target.exists():
                return self._check_here(target, place, form, expected)
            if self._offline:
                raise MissingOfflineError([self._placement(item, key, place)])
            url = url_of(item, key, self._mirror)
            enforced = None if self._accept_changed else expected
            self._listener.begin(target.name)
            try:
                got = self._download(url, work, target.name, enforced)
            finally:
                self._listener.end()
            if enforced is None:
                try:
                    check_content(got, form, shown_url(url))
                except NotTheFileError:
                    got.unlink()
                    raise
            return self._keep(got, target, place, url, "downloaded")

    def _download(self, url: str, work: Path, name: str, expected: Expected | None) -> Path:
        import pooch

        for entry in work.iterdir():
            if entry.is_file() and entry.name.startswith("tmp"):
                entry.unlink()  # pooch's, of a process that was killed
        downloader = ResumingDownloader(
            work / f"{name}.part", self._session, expected=expected, retry=self._retry, listener=self._listener
        )
        known_hash = f"{expected.algorithm}:{expected.digest}" if expected else None
        with _quiet(pooch.get_logger()):
            try:
                return Path(
                    pooch.retrieve(url, known_hash=known_hash, fname=name, path=str(work), downloader=downloader)
                )
            except ScgeneptError:
                raise
            except ValueError as error:  # pooch's word for another checksum; it has removed the file
                assert expected is not None
                raise UpstreamChangedError(
                    url, expected.describe(), expected.known_from, f"its {expected.algorithm} is another one"
                ) from error

    def _check_here(self, path: Path, place: str, form: Format, expected: Expected | None) -> Fetched:
        """Check a file that lies here; record it if nothing is known of it."""
        size = path.stat().st_size
        self._listener.begin(f"checking {path.name}")
        try:
            sha256 = digest(path, update=self._listener.update)
            if expected is not None:
                found = sha256 if expected.algorithm == "sha256" else digest(path, expected.algorithm)
                if found == expected.digest and expected.algorithm == "sha256":
                    return Fetched(path, sha256, size, "present")
                if found != expected.digest and not self._accept_changed:
                    raise LocalFileChangedError(
                        path,
                        expected.describe(),
                        expected.known_from,
                        f"it has {expected.algorithm} {found} and {pluralize(size, 'byte')}",
                    )
            check_content(path, form, str(path))
        finally:
            self._listener.end()
        self.checksums.record(place, sha256, size, None)
        return Fetched(path, sha256, size, "recorded")

    def _keep(
        self, complete: Path, target: Path, place: str, url: str | None, how: Literal["downloaded", "unpacked"]
    ) -> Fetched:
        """Record a complete file and move it to its place, in this order: nothing lies there unrecorded."""
        sha256, size = digest(complete), complete.stat().st_size
        self.checksums.record(place, sha256, size, url)
        target.parent.mkdir(parents=True, exist_ok=True)
        complete.replace(target)
        _sync_directory(target.parent)
        return Fetched(target, sha256, size, how)

    # --- data sets ----------------------------------------------------------------------------------------------------

    def _fetch_dataset(self, item: Item) -> Fetched:
        assert item.archive is not None
        target = self.path / item.place
        with self._working_on(item.place) as work:
            expected = self.checksums.expected(item.place)
            if target.exists():
                return self._check_here(target, item.place, "h5ad", expected)
            archive = self._fetch_file(item, item.keys[0], item.archive, "archive")
            unpacked = work / target.name
            extract_member(archive.path, item.place, unpacked, self._listener)
            try:
                check_content(unpacked, "h5ad", f"{target.name} in {archive.path}")
                if expected is not None and not self._accept_changed:
                    found = digest(unpacked)
                    if found != expected.digest:
                        raise LocalFileChangedError(
                            archive.path, expected.describe(), expected.known_from, f"{target.name} in it has {found}"
                        )
            except (NotTheFileError, LocalFileChangedError):
                unpacked.unlink()
                raise
            kept = self._keep(unpacked, target, item.place, None, "unpacked")
            if archive.how == "downloaded":  # one that was placed here by hand is not ours to remove
                archive.path.unlink()
            return kept

    # --- words and files ----------------------------------------------------------------------------------------------

    @contextmanager
    def _working_on(self, place: str) -> Iterator[Path]:
        def waiting() -> None:
            self._listener.say(f"{place}: another process is downloading it; waiting for that one")

        with work_directory(self.path, place, waiting) as work:
            yield work

    def _placement(self, item: Item, key: str, place: str) -> str:
        """Say what to place where, so that a download by other means is found and checked."""
        expected = self._expected(place, item)
        lines = [
            f"{item.name}: {item.description}",
            f"  get       {shown_url(url_of(item, key, self._mirror))}",
            f"  place at  {self.path / place}",
            f"  checksum  {expected.describe()}" if expected else "  checksum  not published",
        ]
        if item.kind == "checkpoint":
            lines.insert(2, "            (the name may differ: keep the one that it has, best_model_*.pt)")
        if item.archive == place:
            lines.append(f"  or place the unpacked one at  {self.path / item.place}")
        return "\n".join(lines)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch's own words about downloads out of ours."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _sync_directory(path: Path) -> None:
    with contextlib.suppress(OSError):  # not possible on every file system
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
