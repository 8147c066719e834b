"""Connecting to a Ray cluster, quietly, and in bounded time where there is none."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from scgenept_rt.errors import ClusterError, MissingPackageError

ADDRESS_VARIABLE = "RAY_ADDRESS"
_SECONDS_TO_ANSWER = 10
# HTTP/2's preface and an empty frame of settings, which a gRPC server answers with its own.
_GREETING, _HEADER_BYTES, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), 9, 4


def import_ray() -> Any:
    """Return Ray; unless it was imported before, it prints little and reports nothing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray prints paragraphs about lost workers on standard output, which this package says in a line.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError:
        raise MissingPackageError("ray", "prediction on a Ray cluster", "ray") from None
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Mapping[str, float]]:
    """Connect to a cluster and yield its resources; a connection that the process has already is used and kept.

    Without an address it is the cluster that the environment variable RAY_ADDRESS names, or this machine belongs to, or
    a new one of this machine alone.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray.cluster_resources()
        return
    address = reachable(address)
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ValueError, OSError, RuntimeError, ray.exceptions.RayError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        remedy = (
            "If the cluster checks tokens, set the environment variable RAY_AUTH_MODE=token, with the head's "
            "~/.ray/auth_token on this machine"
        )
        raise ClusterError(f"no connection to a Ray cluster ({reason})", remedy, where=address or "") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)  # Ray's own would end the process as if it were an error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


@contextmanager
def before_interrupts(call: Callable[[], None]) -> Iterator[None]:
    """Call a function when SIGINT or SIGTERM arrives, before what they do otherwise; in the main thread only."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        call()
        before[signal.Signals(number)](number, frame)  # type: ignore[operator, misc]

    with ExitStack() as restored:
        for number, handler in before.items():
            if callable(handler) and threading.current_thread() is threading.main_thread():
                signal.signal(number, handle)
                restored.callback(signal.signal, number, handler)
        yield


def reachable(address: str | None) -> str | None:
    """Return the address to give to Ray, or raise ClusterError if nothing answers there: Ray would try for minutes."""
    named = address or os.environ.get(ADDRESS_VARIABLE, "auto")
    last = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    of_machine = named == "auto" and last.exists()
    try:
        _check_answer(last.read_text().strip() if of_machine else named)
    except ClusterError:
        if of_machine and address is None:  # its last cluster was killed
            return "local"
        raise
    return address


def _check_answer(address: str) -> None:
    """Raise ClusterError if nothing at an address speaks gRPC; names without a port are left to Ray."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit() or os.environ.get("RAY_USE_TLS") == "1":
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER) as connection:
            connection.settimeout(_SECONDS_TO_ANSWER)
            connection.sendall(_GREETING)
            header = connection.recv(_HEADER_BYTES)
    except (OSError, OverflowError) as error:
        reason = f"no answer ({error})"
    else:
        if header[3:4] == bytes([_SETTINGS]):
            return
        reason = "what answers is not Ray"
    raise ClusterError(
        reason, "Give the address that `ray start --head` printed, with the port 6379 if none was chosen", where=address
    )
