"""What commands print beside results: messages, with options worded as their flags, progress, and reports."""

from __future__ import annotations

import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from scgenept_rt.errors import Caution, Notice, OutputError, PredictionWarning, ScgeneptError, UseOption
from scgenept_rt.files.durable import check_report_path, write_report
from scgenept_rt.wording import format_duration, printable

_SECONDS_BETWEEN_LINES = 15.0
_LONG_SECONDS, _SECONDS_TO_JUDGE = 3600.0, 5.0

Show = Callable[[str, int, int | None], None]
"""Called with a line of text, and how many of how many are done."""

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
    """Print a notice on standard error: a warning if it is about what changes numbers."""
    say(f"{'warning' if isinstance(notice, Caution) else 'note'}: {worded(notice)}")


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


@contextmanager
def show_progress(unit: str, *, scale: float = 1.0, shorter: Sequence[UseOption] = ()) -> Iterator[Callable[..., None]]:
    """Yield a function that takes how many of how many are done, and shows them with the rate and the time left.

    The rate is that since its first call: what a resumed run found done does not count. Counts are shown in `unit`,
    divided by `scale`; a third argument is shown after the rate. `shorter` are options to suggest if more than an hour
    is left.
    """
    begun: tuple[float, int] | None = None
    is_long = False
    with _bar() if sys.stderr.isatty() else _lines() as show:

        def update(done: int, total: int | None, also: str = "") -> None:
            nonlocal begun, is_long
            now = time.monotonic()
            started, first = begun = begun or (now, done)
            seconds = now - started
            per_second = (done - first) / seconds if seconds else 0.0
            left = (total - done) / per_second if total and per_second else 0.0
            if shorter and not is_long and left > _LONG_SECONDS and seconds > _SECONDS_TO_JUDGE:
                is_long = True
                note(Notice(f"this run will take about {format_duration(left)}", options=shorter))
            of_total = f" of {total / scale:,.0f}" if total else ""
            texts = [f"{done / scale:,.0f}{of_total} {unit}", f"{per_second / scale:,.1f} {unit}/s", also]
            if left:
                texts.append(f"{format_duration(left)} left")
            show(", ".join(filter(None, texts)), done, total)

        yield update


@contextmanager
def _lines() -> Iterator[Show]:
    printed = time.monotonic()

    def show(text: str, *_: int | None) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= _SECONDS_BETWEEN_LINES:
            printed = now
            say(text)

    yield show


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda text, done, total: bar.update(task, completed=done, total=total, description=text)


def check_report_paths(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Check before minutes of prediction whether the reports can be written, each to a file of its own."""
    taken = {os.path.realpath(path): "this is an input of the command" for path in inputs if path is not None}
    for path in outputs:
        if path is not None:
            check_report_path(path)
            place = os.path.realpath(path)
            if place in taken:
                raise OutputError(taken[place], "Choose another path", where=path)
            taken[place] = "another report of this command goes there too"


def write_reports(reports: Sequence[tuple[Path | None, Callable[[], str]]], show: Callable[[], None]) -> None:
    """Write the reports that are asked for, then print the figures and what was written.

    In this order, as the reader of a pipe may close it (`| head`), which ends the program; and figures that were
    computed are printed even if a report cannot be written.
    """
    written = []
    try:
        for path, text in reports:
            if path is not None:
                write_report(path, text().encode())
                written.append(path)
    finally:
        show()
        for path in written:
            print(f"wrote {path}")
