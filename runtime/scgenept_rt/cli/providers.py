"""`scgenept-rt providers`: what this machine can run."""

from __future__ import annotations

import typer

from scgenept_rt.cli.options import JsonOption
from scgenept_rt.files.text import json_text
from scgenept_rt.wording import pluralize


def providers(
    json_output: JsonOption = False,
) -> None:
    """Show which execution providers are usable here, and for the others why not and what to do."""
    import dataclasses

    from scgenept_rt.providers import diagnose

    statuses = diagnose()
    if json_output:
        typer.echo(json_text([dataclasses.asdict(status) for status in statuses]))
        return
    width = max(len(status.name) for status in statuses)
    for status in statuses:
        threads = f", {pluralize(status.details['threads'], 'thread')}" if "threads" in status.details else ""
        typer.echo(f"{status.name:<{width}}  {'yes' if status.usable else 'no':<3}  {status.reason}{threads}")
        if status.remedy:
            typer.echo(f"{'':<{width}}       -> {status.remedy}")
