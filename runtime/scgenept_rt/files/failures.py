"""Errors of libraries and the file system, turned into errors that name the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from scgenept_rt.errors import OutputError, ScgeneptError, UseOption
from scgenept_rt.wording import reason


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
