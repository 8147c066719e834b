"""The command line `scgenept-rt`: one module per command, which parses its options and calls one function.

Command modules import NumPy, ONNX Runtime and anndata inside their functions only, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from scgenept_rt.cli import (
    benchmark,
    check,
    demo,
    download,
    evaluate,
    genes,
    gi,
    inspect,
    merge,
    plot,
    predict,
    providers,
    rank,
    table,
    verify,
)
from scgenept_rt.cli.failure import exit_on_user_error
from scgenept_rt.cli.messages import Command, Group
from scgenept_rt.cli.options import DebugOption, version_option

app = typer.Typer(
    name="scgenept-rt",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict how single cells respond to gene perturbations with scGenePT, on ONNX Runtime, without PyTorch.",
)


@app.callback()
def _global_options(
    debug: DebugOption = False,
    version: Annotated[bool, version_option("scgenept-rt")] = False,
) -> None:
    pass


for _command in (
    predict.predict,
    merge.merge,
    inspect.inspect,
    check.check,
    genes.genes,
    verify.verify,
    providers.providers,
    benchmark.benchmark,
    demo.demo,
    download.download,
    evaluate.evaluate,
    gi.gi,
    rank.rank,
    table.table,
):
    app.command(_command.__name__, cls=Command)(_command)
app.add_typer(plot.app, name="plot")


def main() -> None:
    """Run the command line; errors of the user's input end in one message and exit code 1."""
    os.environ["MPLBACKEND"] = "agg"  # commands write files, and that of a notebook may not be installed here
    arguments = sys.argv[1:]
    debug = "--debug" in arguments  # accepted before and after the command's name
    with exit_on_user_error(debug=debug):
        app(args=[argument for argument in arguments if argument != "--debug"])
