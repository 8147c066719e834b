"""How a command ends that cannot do what was asked."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scgenept_rt.cli.standard_streams import prepare_standard_streams
from scgenept_rt.errors import ScgeneptError

EXIT_USER_ERROR = 1
EXIT_INTERRUPTED = 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def exit_on_user_error(*, debug: bool) -> Iterator[None]:
    """Turn a `ScgeneptError` into one message on standard error and exit code 1; `debug` lets the traceback through.

    So ends a full disk, too, standard output's included. The standard streams are usable within, however the command
    was started.
    """
    prepare_standard_streams()
    try:
        try:
            yield
        except SystemExit:
            # Here and not when Python ends, where what cannot be written gives a traceback and exit code 120.
            if sys.stdout is not None:  # closed by the caller (`>&-`)
                sys.stdout.flush()
            raise
    except ScgeneptError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output went away (`| head`): end quietly.
        _drop_output()
        raise SystemExit(EXIT_USER_ERROR) from None
    except OSError as error:
        if debug or error.errno not in _NO_ROOM:
            raise
        _drop_output()
        where = f"{error.filename}" if error.filename else "the output (a file, or what standard output goes to)"
        print(f"error: {where} cannot be written: {error.strerror}. Free space, or write elsewhere.", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR) from None


def _drop_output() -> None:
    """Keep Python's own flush at exit from raising what was met already."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
