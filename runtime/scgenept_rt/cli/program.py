"""Start the programs of this package, and end them with a message and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from scgenept_rt.cli.messages import Group, say
from scgenept_rt.errors import ScgeneptError
from scgenept_rt.files.failures import let_signals_end_reads

EXIT_USER_ERROR = 1
_SECONDS_OF_ONE_STOP = 1.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def new_program(name: str, text: str) -> typer.Typer:
    """Return a program with --version and --debug, to which its commands are added."""
    program = typer.Typer(
        name=name,
        cls=Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=text,
    )
    program.callback()(_options_of_program)
    return program


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(context.command.name, version("scgenept-rt"))
        raise typer.Exit


def _options_of_program(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def run_program(program: typer.Typer) -> None:
    """Run a program; a `ScgeneptError`, or a full disk, ends it with one message on standard error and exit code 1.

    With --debug, before or after the name of the command, the error is raised with its traceback instead.
    """
    _prepare_standard_streams()
    stopped_by: list[int] = []
    stopped_at = 0.0

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopped_at
        if not stopped_by:
            stopped_by.append(number)
            stopped_at = time.monotonic()
            raise KeyboardInterrupt
        # `timeout` and others send a signal twice. Asked again later, the network is not waited for: Python would end
        # while it runs, which aborts.
        if time.monotonic() - stopped_at > _SECONDS_OF_ONE_STOP:
            os._exit(128 + number)

    heard = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    for number in heard:  # nohup has SIGHUP ignored
        signal.signal(number, stop)
    let_signals_end_reads(heard)
    try:
        try:
            program(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
        except SystemExit:
            # Here and not when Python ends, where what cannot be written gives a traceback and exit code 120.
            sys.stdout.flush()
            if stopped_by:  # typer ends with 130 for all
                raise SystemExit(128 + stopped_by[0]) from None
            raise
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(128 + stopped_by[0]) from None
    except BrokenPipeError:
        # The reader of our output went away (`| head`): end quietly.
        _drop_output()
        raise SystemExit(EXIT_USER_ERROR) from None
    except (ScgeneptError, MemoryError, OSError) as error:
        message = _message(error)
        if "--debug" in sys.argv[1:] or not message:
            raise
        say(f"error: {message}")
        raise SystemExit(EXIT_USER_ERROR) from None


def _message(error: Exception) -> str:
    """Return what to print; nothing for an error that a user cannot resolve."""
    if isinstance(error, ScgeneptError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        _drop_output()
        where = error.filename or "the output (a file, or what standard output goes to)"
        return f"{where} cannot be written: {error.strerror}. Free space, or write elsewhere."
    if isinstance(error, OSError):
        used = f"{error.filename} cannot be used: {error.strerror}. Check its permissions, or choose another."
        return used if error.filename else ""
    return f"memory ran out ({str(error) or 'no size is known'}). Ask for less, or use another machine."


def _prepare_standard_streams() -> None:
    """Open streams that the caller closed, and print characters that the terminal's encoding lacks as escapes."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Takes this very number: a file that is opened later must not get one that native libraries print to.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until Python ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Keep Python's own flush at exit from raising what was met already."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
