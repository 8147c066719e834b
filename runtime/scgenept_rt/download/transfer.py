"""A downloader for pooch that goes on where a broken connection stopped.

pooch hands it an address and a file to fill, then compares the checksum. The bytes gather in a `.part` file that
outlives the process; beside it lies what identifies the version of the file on the server that they belong to.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import requests

from scgenept_rt.download.checksums import Expected
from scgenept_rt.download.errors import DownloadDirectoryError, DownloadSpaceError, UpstreamChangedError, WebPageError
from scgenept_rt.download.requesting import refusal, request
from scgenept_rt.download.retrying import Retries, RetryPolicy, TransientError

_CHUNK = 1 << 16  # what a broken connection may cost
_SPARE = 64 << 20  # left free on the disk
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)$")


class Listener(Protocol):
    """Is told how downloads go."""

    def say(self, text: str) -> None:
        """Tell something worth a line."""

    def begin(self, label: str) -> None:
        """Tell that the work on a file begins."""

    def update(self, done: int, total: int | None) -> None:
        """Tell how many bytes of how many (None: unknown) are done."""

    def end(self) -> None:
        """Tell that the work on the file is over, done or not."""


class SilentListener:
    """A listener that does nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def begin(self, label: str) -> None:
        """Do nothing."""

    def update(self, done: int, total: int | None) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class _Version:
    """What the bytes of a part belong to; without a validator they cannot be continued safely."""

    url: str
    validator: str | None
    total: int | None


class ResumingDownloader:
    """Downloads one file into a `.part` file, however many connections it takes; called by pooch.

    Parameters
    ----------
    part
        Where the bytes gather. What an earlier process left there is continued if the server still has that version.
    session
        Carries the requests.
    expected
        What is known of the file; another size ends the download before its first byte.
    retry
        When to try again.
    listener
        Is told the progress.
    """

    def __init__(
        self,
        part: Path,
        session: requests.Session,
        *,
        expected: Expected | None = None,
        retry: RetryPolicy | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._part = part
        self._about = part.with_name(f"{part.name}.json")
        self._session = session
        self._expected = expected
        self._retry = retry or RetryPolicy()
        self._listener = listener or SilentListener()

    def __call__(self, url: str, output_file: str | os.PathLike[str], _pooch: object) -> None:
        """Fill `output_file` with the whole of what is at `url`.

        Raises
        ------
        DownloadError
            If the file cannot be had; what is here of it stays in the part, unless it belongs to nothing any more.
        """
        retries = Retries(self._retry, url, self._listener.say)
        while True:
            try:
                self._attempt(url)
                break
            except TransientError as failure:
                retries.wait_after(failure, self._n_bytes())
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise DownloadSpaceError(self._part, None, shutil.disk_usage(self._part.parent).free) from error
                raise
        with self._part.open("rb") as stream:
            os.fsync(stream.fileno())
        self._part.replace(output_file)
        self._about.unlink(missing_ok=True)

    def _n_bytes(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def _discard(self) -> None:
        self._about.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _load(self, url: str) -> _Version | None:
        """Return the version of the bytes that are here, None if they cannot be continued from this address."""
        try:
            version = _Version(**json.loads(self._about.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == url and version.validator is not None else None

    def _attempt(self, url: str) -> None:
        version, offset = self._load(url), self._n_bytes()
        if version is None or offset == 0 or (version.total is not None and offset > version.total):
            self._discard()
            version, offset = None, 0
        if version is not None and offset == version.total:
            return
        headers = {}
        if version is not None and version.validator is not None:
            # If-Range: should the file have changed, the server sends the whole new one instead of a range of it
            headers = {"Range": f"bytes={offset}-", "If-Range": version.validator}
        with request(self._session, "GET", url, headers) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._discard()
                raise TransientError("the server has no such range, starting anew", wait=0)
            if response.status_code == requests.codes.partial_content and version is not None:
                self._continue(response, version, offset)
            elif response.status_code == requests.codes.ok:
                self._start(response, url)
            else:
                raise refusal(url, response)

    def _continue(self, response: requests.Response, version: _Version, offset: int) -> None:
        stated = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        total = int(stated[3]) if stated and stated[3] != "*" else version.total
        # Some servers honour Range and ignore If-Range, so that the version is compared here too.
        if (
            stated is None
            or int(stated[1]) != offset
            or _validator(response) not in (None, version.validator)
            or (version.total is not None and total != version.total)
        ):
            self._discard()
            raise TransientError("the file on the server changed in the meantime, starting anew", wait=0)
        self._listener.say(f"going on from byte {offset:,}")
        with self._part.open("r+b") as stream:
            stream.seek(offset)
            self._receive(response, stream, total)

    def _start(self, response: requests.Response, url: str) -> None:
        total, validator = _length(response), _validator(response)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            total = validator = None  # the length and the ranges are those of the compressed form
        if "html" in response.headers.get("Content-Type", "").lower():
            raise WebPageError(url)
        known = self._expected.size if self._expected else None
        if self._expected and None not in (total, known) and total != known:
            raise UpstreamChangedError(
                url, self._expected.describe(), self._expected.known_from, f"its size is {total:,} bytes"
            )
        if total is not None:
            _check_space(self._part, total)
        self._about.unlink(missing_ok=True)
        with self._part.open("wb") as stream:
            # Written after the old bytes are gone and before the first new one: it never describes another version's.
            self._about.write_text(json.dumps(asdict(_Version(url, validator, total))), "utf-8")
            self._receive(response, stream, total, url)

    def _receive(
        self, response: requests.Response, stream: BinaryIO, total: int | None, first_of: str | None = None
    ) -> None:
        done = stream.tell()
        self._listener.update(done, total)
        for chunk in response.iter_content(_CHUNK):
            if first_of is not None:
                if chunk.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
                    self._discard()
                    raise WebPageError(first_of)
                first_of = None
            stream.write(chunk)
            done += len(chunk)
            self._listener.update(done, total)
        stream.flush()
        if total is not None and done != total:
            if done > total:
                self._discard()
            raise TransientError(f"the connection ended at byte {done:,} of {total:,}")


def _length(response: requests.Response) -> int | None:
    stated = response.headers.get("Content-Length", "")
    return int(stated) if stated.isdigit() else None


def _validator(response: requests.Response) -> str | None:
    """Return what names this version for If-Range: a strong ETag, else the date of the last change."""
    etag = response.headers.get("ETag")
    if etag is None:
        return response.headers.get("Last-Modified")
    return None if etag.startswith("W/") else etag


def _check_space(path: Path, needed: int) -> None:
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise DownloadDirectoryError(path.parent, f"it cannot be used ({error.strerror})") from error
    if needed + _SPARE > free:
        raise DownloadSpaceError(path, needed, free)
