"""What commands print on standard error, with options worded as the flags of the command at hand."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from scgenept_rt.errors import Notice, PredictionWarning, ScgeneptError
from scgenept_rt.wording import printable

_flags: dict[str, str] = {}


def program() -> list[str]:
    """Return how this program was started: as the script, or by ``python -m``."""
    by_module = Path(sys.argv[0]).name == "__main__.py"
    return [sys.executable, "-m", "scgenept_rt"] if by_module else ["scgenept-rt"]


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


def say(text: str) -> None:
    """Print a line on standard error; commands of this program in it are worded as it was started."""
    print(text.replace("`scgenept-rt ", f"`{shlex.join(program())} "), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a line that holds names from files on standard output."""
    print(printable(text))


def note(notice: str) -> None:
    """Print a warning message on standard error."""
    say(f"note: {worded(notice)}")


def worded(notice: str) -> str:
    """Return a warning message with options worded as flags."""
    return notice.message(_flags) if isinstance(notice, Notice) else notice


def flags_of(command: Any) -> dict[str, str]:
    """Return the flags of a command by option name."""
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {option.name: max(option.opts, key=len) for option in options}  # the longest: -p is --perturbation


class _WithoutTypes:
    """Shows no type in the help of flags that take no value: newer typer would write <bool> there."""

    def get_params(self, ctx: typer.Context) -> list[Any]:
        """Return the parameters, --help among them."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Group(_WithoutTypes, TyperGroup):  # type: ignore[misc]
    """A group of commands."""


class Command(_WithoutTypes, TyperCommand):  # type: ignore[misc]
    """A command whose messages word options as its own flags."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse arguments; the address of --ray may be left out, which typer has no way to declare."""
        following = [*args[1:], "-"]
        args = [
            "--ray=" if arg == "--ray" and next_arg.startswith("-") else arg
            for arg, next_arg in zip(args, following, strict=False)
        ]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command."""
        global _flags
        _flags = flags_of(self)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PredictionWarning)  # printed as notes
                return super().invoke(ctx)
        except ScgeneptError as error:
            error.args = (error.message(_flags),)
            raise
