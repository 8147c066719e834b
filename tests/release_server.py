"""A server on loopback that stands in for the release and for Dataverse, and misbehaves on request.

`files` maps paths (`/models/...`) to bytes. `on(path, *behaviours)` says how the next requests for a path are answered,
one behaviour a request; after these the file is served as it should be. `always(path, behaviour)` never ends.
Loaded with `runpy.run_path`, as test directories are no packages.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

LONGEST_HOLD = 60.0
"""Seconds after which a held connection ends by itself, should its test have failed."""

Behaviour = Callable[[Any, bytes], None]


class ReleaseServer:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str | None] = {}
        self.last_modified: str | None = None
        self.ranges = True
        self.honours_if_range = True
        self.knows_head = True
        self.lists = True
        self.busy = 0  # requests that are still answered with 503
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.released = threading.Event()
        self.held = threading.Event()
        self._next: dict[str, list[Behaviour]] = defaultdict(list)
        self._always: dict[str, Behaviour] = {}
        owner = self

        class Handler(_Handler):
            release = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def on(self, path: str, *behaviours: Behaviour) -> None:
        self._next[path].extend(behaviours)

    def always(self, path: str, behaviour: Behaviour | None) -> None:
        if behaviour is None:
            self._always.pop(path, None)
        else:
            self._always[path] = behaviour

    def behaviour(self, path: str) -> Behaviour | None:
        return self._next[path].pop(0) if self._next[path] else self._always.get(path)

    def etag(self, path: str) -> str | None:
        if path in self.etags:
            return self.etags[path]
        return f'"{hashlib.md5(self.files[path]).hexdigest()}"'

    def gets(self, path: str) -> list[dict[str, str]]:
        """Headers of each GET of a path."""
        return [headers for method, asked, headers in self.requests if (method, asked) == ("GET", path)]

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

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.answer()

    def answer(self) -> None:
        parts = urlsplit(self.path)  # a client of a proxy sends the whole address
        path = unquote(parts.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.release.requests.append((self.command, path, headers))
        if self.release.busy:
            self.release.busy -= 1
            self.refuse(503)
            return
        if self.command == "HEAD" and not self.release.knows_head:
            self.refuse(501)
            return
        if self.command == "GET" and "list-type" in parts.query:
            self.listing(parse_qs(parts.query)["prefix"][0])
            return
        behaviour = self.release.behaviour(path) if self.command == "GET" else None
        if behaviour is not None:
            behaviour(self, self.release.files.get(path, b""))
        elif path in self.release.files:
            self.serve(path)
        else:
            self.refuse(404)

    def refuse(self, status: int, **headers: str) -> None:
        body = b"<Error><Code>refused</Code></Error>"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def listing(self, prefix: str) -> None:
        if not self.release.lists:
            self.refuse(403)
            return
        keys = [path[1:] for path in self.release.files if path[1:].startswith(prefix)]
        contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Prefix>{escape(prefix)}</Prefix>{contents}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def head_of(self, path: str, status: int | None = None) -> bytes:
        """Send status and headers as a right server would, and return the body to send."""
        data, etag = self.release.files[path], self.release.etag(path)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        validator = self.headers.get("If-Range")
        fresh = validator in (None, etag, self.release.last_modified) or not self.release.honours_if_range
        start = 0
        if status is None and asked and self.release.ranges and fresh:
            start = int(asked[1])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return b""
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(status or 200)
        if etag is not None:
            self.send_header("ETag", etag)
        if self.release.last_modified is not None:
            self.send_header("Last-Modified", self.release.last_modified)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        return data[start:] if self.command == "GET" else b""

    def serve(self, path: str) -> None:
        self.wfile.write(self.head_of(path))

    @property
    def asked_path(self) -> str:
        return unquote(urlsplit(self.path).path)


def status(code: int, **headers: str) -> Behaviour:
    return lambda handler, _data: handler.refuse(code, **headers)


def break_after(n_bytes: int, *, reset: bool = False) -> Behaviour:
    """Send so many bytes of what was asked for, then close (or reset) the connection."""

    def behave(handler: Any, _data: bytes) -> None:
        body = handler.head_of(handler.asked_path)
        handler.wfile.write(body[:n_bytes])
        handler.wfile.flush()
        handler.close_connection = True
        if reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    return behave


def hold_after(n_bytes: int) -> Behaviour:
    """Send so many bytes, then nothing until the test releases the server; then the rest."""

    def behave(handler: Any, _data: bytes) -> None:
        body = handler.head_of(handler.asked_path)
        handler.wfile.write(body[:n_bytes])
        handler.wfile.flush()
        handler.release.held.set()
        handler.release.released.wait(LONGEST_HOLD)
        handler.wfile.write(body[n_bytes:])

    return behave


def whole(code: int = 200, *, cut: int | None = None, body: bytes | None = None, **headers: str) -> Behaviour:
    """Send a body with its own length and any headers: the file (cut to so many bytes), or another body."""

    def behave(handler: Any, data: bytes) -> None:
        sent = (data if body is None else body)[:cut]
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(sent)))
        handler.end_headers()
        handler.wfile.write(sent)

    return behave


def without_length(handler: Any, data: bytes) -> None:
    """End the file by closing the connection, as HTTP/1.0 does."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(data)
    handler.close_connection = True


def wrong_range(handler: Any, data: bytes) -> None:
    """Answer a range with another one."""
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 0-9/{len(data)}")
    handler.send_header("ETag", handler.release.etag(handler.asked_path))
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    handler.wfile.write(data[:10])
