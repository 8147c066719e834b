"""A server on loopback that stands in for the release and for Dataverse, and misbehaves on request.

`files` maps paths (`/models/...`) to bytes. `on(path, *behaviours)` sets how the next requests for a path are answered,
one behaviour per request; afterwards the file is served normally. `always(path, behaviour)` never ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LONGEST_HOLD = 60.0
"""Seconds after which a held connection ends by itself, should its test have failed."""

Behaviour = Callable[[Any], None]


class ReleaseServer:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.weak_etags = False
        self.last_modified: str | None = None
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        self.held = threading.Event()
        self._next: dict[str, list[Behaviour]] = defaultdict(list)
        self._always: dict[str, Behaviour] = {}
        handler = type("Handler", (_Handler,), {"release": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def on(self, path: str, *behaviours: Behaviour) -> None:
        self._next[path].extend(behaviours)

    def always(self, path: str, behaviour: Behaviour | None) -> None:
        self._always.pop(path, None)
        if behaviour is not None:
            self._always[path] = behaviour

    def behaviour(self, path: str) -> Behaviour | None:
        return self._next[path].pop(0) if self._next[path] else self._always.get(path)

    def etag(self, path: str) -> str:
        return f'{"W/" if self.weak_etags else ""}"{hashlib.md5(self.files[path]).hexdigest()}"'

    def gets(self, path: str) -> list[dict[str, str]]:
        """Headers of each request for a path."""
        return [headers for asked, headers in self.requests if asked == path]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    release: ReleaseServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked = unquote(urlsplit(self.path).path)  # a client of a proxy sends the whole address
        self.release.requests.append((self.asked, {name.lower(): value for name, value in self.headers.items()}))
        behave = self.release.behaviour(self.asked)
        with contextlib.suppress(ConnectionError):
            if behave is not None:
                behave(self)
            elif self.asked in self.release.files:
                self.wfile.write(self.head())
            else:
                self.refuse(404)

    def refuse(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def head(self) -> bytes:
        """Send status and headers, and return the body to send."""
        data, etag = self.release.files[self.asked], self.release.etag(self.asked)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.release.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if self.release.last_modified is None:
            self.send_header("ETag", etag)
        else:
            self.send_header("Last-Modified", self.release.last_modified)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        return data[start:]


def status(code: int, **headers: str) -> Behaviour:
    return lambda handler: handler.refuse(code, **headers)


def break_after(n_bytes: int) -> Behaviour:
    """Send so many bytes of what was asked for, then close the connection."""

    def behave(handler: Any) -> None:
        handler.wfile.write(handler.head()[:n_bytes])
        handler.close_connection = True

    return behave


def hold_after(n_bytes: int) -> Behaviour:
    """Send so many bytes, then nothing until the test releases the server; then the rest."""

    def behave(handler: Any) -> None:
        body = handler.head()
        handler.wfile.write(body[:n_bytes])
        handler.wfile.flush()
        handler.release.held.set()
        handler.release.released.wait(LONGEST_HOLD)
        handler.wfile.write(body[n_bytes:])

    return behave
