"""The command that continues what was interrupted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scgenept_rt.cli.messages import program, say


def resume_command() -> str:
    """Return this command with --resume, in the form in which it was given (the script, or `python -m`)."""
    return shlex.join([*program(), *(argument for argument in sys.argv[1:] if argument != "--resume"), "--resume"])


@contextmanager
def resume_hint() -> Iterator[None]:
    """Print the command that continues this one if it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted. Continue with: {resume_command()}")
        raise
