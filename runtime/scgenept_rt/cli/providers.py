"""`scgenept-rt providers`: what this machine can run."""

from __future__ import annotations

from scgenept_rt.cli.options import JsonOption, with_options
from scgenept_rt.files.text import json_text
from scgenept_rt.wording import pluralize


@with_options()
def providers(json_output: JsonOption) -> None:
    """Show which execution providers are usable here, and for the others why not and what to do."""
    import dataclasses

    from scgenept_rt.providers import diagnose

    statuses = diagnose()
    if json_output:
        print(json_text([dataclasses.asdict(status) for status in statuses]))
        return
    width = max(len(status.name) for status in statuses)
    for status in statuses:
        threads = f", {pluralize(status.details['threads'], 'thread')}" if "threads" in status.details else ""
        print(f"{status.name:<{width}}  {'yes' if status.usable else 'no':<3}  {status.reason}{threads}")
        if status.remedy:
            print(f"{'':<{width}}       -> {status.remedy}")
