"""What commands print on standard error, with options worded as the flags of the command at hand."""

from __future__ import annotations

import sys
from typing import Any

import click
from typer.core import TyperCommand

from scgenept_rt.errors.core import Notice, ScgeneptError


def say(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)


def note(notice: str) -> None:
    """Print a warning message on standard error."""
    say(f"note: {notice.message(flags()) if isinstance(notice, Notice) else notice}")


def flags() -> dict[str, str]:
    """Return the flags of the command that runs, by option name."""
    context = click.get_current_context(silent=True)
    options = context.command.params if context is not None else []
    # The longest name: -p is --perturbation.
    return {str(option.name): max(option.opts, key=len) for option in options if isinstance(option, click.Option)}


class Command(TyperCommand):
    """A command whose errors word options as its own flags."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ScgeneptError as error:
            error.args = (error.message(flags()),)
            raise
