"""HTTP transfers that continue where a broken connection, or a killed process, stopped."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version as installed_version
from pathlib import Path

import requests

from scgenept_rt.errors import DownloadError, UseOption
from scgenept_rt.files.durable import sync_data, write_durably
from scgenept_rt.wording import format_size, reason

_TIMEOUT = (15.0, 60.0)  # seconds to connect, and seconds without a byte
_ATTEMPTS, _LONGEST_WAIT = 6, 120
_BUSY = (408, 425, 429, 500, 502, 503, 504)

Progress = Callable[[str, int, int | None], None]
"""Called with what happens, the bytes that are here, and all bytes of the file if that is known."""
_CONTINUE = (
    "Check the network (behind a proxy, set HTTPS_PROXY; where certificates are replaced, REQUESTS_CA_BUNDLE), "
    "then run the same command again to continue"
)


def download(url: str, part: Path, label: str, progress: Progress, options: Iterable[UseOption] = ()) -> str | None:
    """Download an address into a file, or the rest of it if an earlier attempt left the beginning there.

    Returns None once it is complete, or the status of a refusal ("404 Not Found"). `options` help if the network fails.
    """
    failures, most = 0, _size(part)
    while True:
        try:
            return _attempt(url, part, label, progress)
        except requests.RequestException as error:
            # Without ranges every attempt starts anew: only more than ever before is progress.
            here, cause = _size(part), _cause(error)
            failures, most = (1, here) if here > most else (failures + 1, most)
            if failures == _ATTEMPTS or isinstance(error, (requests.exceptions.SSLError, ValueError)):
                problem = f"the connection fails ({cause}); {format_size(here)} are here"
                raise DownloadError(problem, _CONTINUE, options, where=shown_url(url)) from error
            stated = "" if error.response is None else error.response.headers.get("Retry-After", "")
            wait = min(int(stated), _LONGEST_WAIT) if stated.isdecimal() else 2 ** (failures - 1)
            progress(f"{label}: {cause}; attempt {failures + 1} of {_ATTEMPTS} in {wait} s", here, None)
            time.sleep(wait)


def _attempt(url: str, part: Path, label: str, progress: Progress) -> str | None:
    about = part.with_name(f"{part.name}.json")  # which version of the file the bytes in the part belong to
    known_url, known_tag, known_total = json.loads(about.read_text("utf-8")) if about.exists() else ("", None, None)
    done = _size(part)
    # A compressed transfer has ranges of its own.
    headers = {"User-Agent": f"scgenept-rt/{installed_version('scgenept-rt')}", "Accept-Encoding": "identity"}
    if done and known_tag and not known_tag.startswith("W/") and known_url == shown_url(url):  # W/: bytes may differ
        headers["Range"] = f"bytes={done}-"
    with _Session() as session, session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        status, stated = response.status_code, response.headers
        tag = stated.get("ETag") or stated.get("Last-Modified")
        if status == 200:
            about.unlink(missing_ok=True)  # before the bytes that it describes
            length = stated.get("Content-Length") if "Content-Encoding" not in stated else None
            total, done = None if length is None else int(length), 0
            part.write_bytes(b"")
            write_durably(about, json.dumps([shown_url(url), tag, total]).encode())
        elif status in (206, 416):
            total = known_total
            if tag != known_tag or stated.get("Content-Range") != f"bytes {done}-{(total or 0) - 1}/{total}":
                about.unlink(missing_ok=True)
                raise requests.ConnectionError("the file on the server changed in the meantime")
            progress(f"{label}: continuing from byte {done:,}", done, total)
        elif status in _BUSY:
            raise requests.HTTPError(f"HTTP {status} {response.reason}", response=response)
        else:
            return f"{status} {response.reason}"
        with part.open("ab") as stream:
            for chunk in response.iter_content(1 << 16):
                stream.write(chunk)
                done += len(chunk)
                progress(label, done, total)
            stream.flush()
            sync_data(stream)
    if total not in (None, done):
        raise requests.ConnectionError(f"the connection ended at byte {done:,} of {total:,}")
    about.unlink()
    return None


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Refuse redirects from https to http, before anything is requested there."""
        target = str(prepared_request.url)
        if response.url.startswith("https:") and not target.startswith("https:"):
            problem = f"it redirects to {shown_url(target)}, which is not encrypted"
            raise DownloadError(problem, "Use a server that stays with https", where=shown_url(response.url))
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _cause(error: BaseException) -> str:
    """Return the first cause of an error, without what requests and urllib3 add."""
    return reason(error) if error.__context__ is None else _cause(error.__context__)


def shown_url(url: str) -> str:
    """Return an address without a password or a signed query."""
    return re.sub("//[^/]*@", "//", url.partition("?")[0])


def is_address(url: str) -> bool:
    """Return whether a text is an address of http or https, without a query."""
    return re.fullmatch(r"https?://[^/?#]+(/[^?#]*)?", url, re.IGNORECASE) is not None
