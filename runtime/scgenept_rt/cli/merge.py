"""`scgenept-rt merge`: the parts of a run become one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scgenept_rt.cli.messages import note, resume_command, resume_hint, show_progress
from scgenept_rt.cli.options import with_options
from scgenept_rt.options import FileOptions


@with_options(output=("overwrite", "resume"))
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out that the parts were predicted with.")],
    output: FileOptions,
) -> None:
    """Put the parts that `predict --shard` wrote together: the file of an undivided run. The parts stay."""
    from scgenept_rt.output.shards import merge_shards

    with resume_hint(), show_progress("rows") as progress:
        paths = merge_shards(
            out,
            overwrite=output["overwrite"],
            resume=output["resume"],
            command=resume_command(),
            progress=progress,
            on_notice=note,
        )
    for path in paths:
        print(f"wrote {path}")
