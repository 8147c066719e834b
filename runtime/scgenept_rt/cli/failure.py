"""How a command ends that cannot do what was asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scgenept_rt.errors import ScgeneptError

EXIT_USER_ERROR = 1
EXIT_INTERRUPTED = 130


@contextmanager
def exit_on_user_error(*, debug: bool) -> Iterator[None]:
    """Turn a `ScgeneptError` into one message on standard error and exit code 1; `debug` lets the traceback through."""
    try:
        yield
    except ScgeneptError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_USER_ERROR) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output went away (`| head`): end quietly, and keep Python's own flush at exit from raising.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_USER_ERROR) from None
