"""Errors of libraries and the file system, turned into errors that name the file; and reads that do not end."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from scgenept_rt.errors import OutputError, ScgeneptError, UseOption
from scgenept_rt.wording import reason

_SECONDS_TO_NOTICE = 10.0
_ending: set[int] = set()


@contextmanager
def failed_reads(
    kind: type[ScgeneptError], where: object, name: str = "", remedy: str = "Copy or write the file again"
) -> Iterator[None]:
    """Turn any error that a library raises while it reads a file into one of a `kind` that names the file.

    The original is its cause; a `ScgeneptError` passes as it is. `name` is the part of the file that is read, empty for
    all of it, `remedy` what helps if it is damaged.
    """
    try:
        yield
    except ScgeneptError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        problem = f"{name} is missing" if name else "there is no such file"
        raise kind(problem, remedy if name else "Check the path", where=where) from error
    except PermissionError as error:
        raise kind(f"{name or 'it'} cannot be read ({error.strerror})", "Check its permissions", where=where) from error
    except BlockingIOError as error:
        unlock = "Close it there, or set the environment variable HDF5_USE_FILE_LOCKING=FALSE"
        raise kind("another program has it open for writing", unlock, where=where) from error
    except Exception as error:  # a damaged file: libraries raise many kinds
        raise kind(f"{name or 'it'} cannot be read ({reason(error)})", remedy, where=where) from error


@contextmanager
def failed_writes(
    where: object,
    problem: str,
    remedy: str = "Choose another path",
    options: Iterable[UseOption] = (),
    kind: type[ScgeneptError] = OutputError,
) -> Iterator[None]:
    """Turn errors of the file system while a file is written into one that names the file."""
    try:
        yield
    except ScgeneptError:  # some of them are OSErrors too
        raise
    except OSError as error:
        raise kind(f"{problem} ({reason(error)})", remedy, options, where=where) from error


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
