"""HTTP transfers that continue where a broken connection, or a killed process, stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, ProtocolError
from urllib3.util.retry import Retry

from scgenept_rt.errors import DownloadError, UseOption
from scgenept_rt.files.durable import sync_data, write_durably
from scgenept_rt.wording import format_size

_TIMEOUT = (15.0, 60.0)
"""Seconds to connect, and seconds without a byte."""
_LONGEST_WAIT = 120.0
_NO_PROGRESS = Retry(5, other=0, backoff_factor=1)

ELSEWHERE = (
    UseOption("mirror", "download from another server"),
    UseOption("offline", "see where to place a file that you got by other means", True),
)


class Listener:
    """Called with messages, and with how many bytes of a file are here; this one ignores both."""

    def say(self, text: str) -> None: ...  # noqa: D102

    def update(self, label: str, done: int, total: int | None) -> None: ...  # noqa: D102


class _Retry(Retry):
    def get_retry_after(self, response: Any) -> float | None:
        seconds = super().get_retry_after(response)
        return None if seconds is None else min(seconds, _LONGEST_WAIT)


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Refuse redirects from https to http, before anything is requested there."""
        if response.url.startswith("https:") and not str(prepared_request.url).startswith("https:"):
            raise DownloadError(
                f"it redirects to {shown_url(str(prepared_request.url))}, which is not encrypted",
                "Use a mirror that stays with https",
                ELSEWHERE,
                where=shown_url(response.url),
            )
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]


def new_session() -> requests.Session:
    """Return a session that tries again where a server is busy; proxies and certificates come from the environment."""
    busy = (408, 425, 429, 500, 502, 503, 504)
    retry = _Retry(5, connect=0, read=0, other=0, backoff_factor=1, status_forcelist=busy, raise_on_status=False)
    session = _Session()
    session.headers["User-Agent"] = f"scgenept-rt/{installed_version('scgenept-rt')}"
    session.headers["Accept-Encoding"] = "identity"  # a compressed transfer has ranges of its own
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    return session


def download(url: str, part: Path, session: requests.Session, listener: Listener, label: str) -> str | None:
    """Download an address into a file, or the rest of it if an earlier attempt left the beginning there.

    Returns None once the file is complete, or the status with which the server refuses it ("404 Not Found").
    """
    retry, most = _NO_PROGRESS, _size(part)
    while True:
        try:
            return _attempt(url, part, session, listener, label)
        except requests.RequestException as error:
            # Without ranges every attempt starts anew: only more than ever before is progress.
            if _size(part) > most:
                retry, most = _NO_PROGRESS, _size(part)
            untrusted = isinstance(error, requests.exceptions.SSLError)
            try:
                retry = retry.increment("GET", url, error=error if untrusted else ProtocolError())
            except MaxRetryError:
                hint = "behind a proxy, set HTTPS_PROXY; where certificates are replaced, REQUESTS_CA_BUNDLE"
                raise DownloadError(
                    f"the connection fails ({_cause(error)}); {format_size(_size(part))} are here",
                    f"Check the network ({hint}), then run the same command again to continue",
                    ELSEWHERE,
                    where=shown_url(url),
                ) from error
            listener.say(f"{label}: {_cause(error)}; trying again")
            retry.sleep()


def _attempt(url: str, part: Path, session: requests.Session, listener: Listener, label: str) -> str | None:
    about = part.with_name(f"{part.name}.json")  # which version of the file the bytes in the part belong to
    known = json.loads(about.read_text("utf-8")) if about.exists() else {}
    total, done = known.get("total"), _size(part)
    resumable = total and known["validator"] and known["url"] == shown_url(url)
    if resumable and done == total:
        return None
    # If-Range: the server sends the whole file if it changed in the meantime.
    headers = {"Range": f"bytes={done}-", "If-Range": known["validator"]} if resumable and done else {}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        status, stated = response.status_code, response.headers
        if status == 200:
            about.unlink(missing_ok=True)  # before the bytes that it describes
            length = stated.get("Content-Length") if "Content-Encoding" not in stated else None
            total, done = None if length is None else int(length), 0
            part.write_bytes(b"")
            version = {"url": shown_url(url), "validator": _validator(stated), "total": total}
            write_durably(about, json.dumps(version).encode())
        elif status in (206, 416):
            # Some servers honour Range and ignore If-Range.
            same = _validator(stated) in (None, known.get("validator"))
            if not same or stated.get("Content-Range") != f"bytes {done}-{(total or 0) - 1}/{total}":
                about.unlink()
                raise requests.ConnectionError("the file on the server changed in the meantime")
            listener.say(f"{label}: continuing from byte {done:,}")
        else:
            return f"{status} {response.reason}"
        with part.open("ab") as stream:
            for chunk in response.iter_content(1 << 16):
                stream.write(chunk)
                done += len(chunk)
                listener.update(label, done, total)
            stream.flush()
            sync_data(stream)
    if total not in (None, done):
        raise requests.ConnectionError(f"the connection ended at byte {done:,} of {total:,}")
    about.unlink()
    return None


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what identifies a version of a file: a strong ETag, or the date of its last change."""
    etag = headers.get("ETag")
    return headers.get("Last-Modified") if etag is None else None if etag.startswith("W/") else etag


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _cause(error: BaseException) -> str:
    """Return the innermost cause of an error, without the names of objects that requests and urllib3 add."""
    wrapped = [getattr(error, "reason", None), *error.args]
    inner = next((cause for cause in wrapped if isinstance(cause, BaseException)), None)
    return _cause(inner) if inner else str(error).rpartition(": ")[2] or type(error).__name__


def shown_url(url: str) -> str:
    """Return an address without a password or a signed query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_address(url: str) -> bool:
    """Return whether a text is an address of http or https, without a query."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and parts.port != 0
    except ValueError:
        return False
