"""Slow reads: what is being read is logged after a while, and signals end a command that hangs in a library."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_SECONDS_TO_NOTICE = 10.0
_ending: set[int] = set()


def let_signals_end_reads(numbers: Iterable[int]) -> None:
    """Let these signals end the process at once while a file is read.

    HDF5 may loop forever on a damaged file, and signal handlers in Python would wait for it.
    """
    _ending.update(numbers)


@contextmanager
def watched(what: str) -> Iterator[None]:
    """Log that `what` is still being read after a while, and again each time twice as much time has passed."""
    ended = threading.Event()
    threading.Thread(target=_log_duration, args=(what, ended), daemon=True).start()
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # no other may
        handlers = {number: signal.signal(number, signal.SIG_DFL) for number in _ending}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        ended.set()


def _log_duration(what: str, ended: threading.Event) -> None:
    log = logging.getLogger(__name__)  # here: importing this package sets up nothing
    begun, seconds = time.monotonic(), _SECONDS_TO_NOTICE
    while not ended.wait(seconds):
        seconds = time.monotonic() - begun
        log.warning("still reading %s, for %.0f seconds now", what, seconds)
