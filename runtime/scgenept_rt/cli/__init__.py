"""The command line `scgenept-rt`: one module per command, which parses its options and calls one function.

Command modules import NumPy, ONNX Runtime and anndata inside their functions only, so that `--help` answers at once.
"""

from __future__ import annotations

import os
from importlib import import_module

from scgenept_rt.cli import plot
from scgenept_rt.cli.messages import Command
from scgenept_rt.cli.program import new_program, run_program

COMMANDS = (
    "predict",
    "merge",
    "inspect",
    "check",
    "genes",
    "verify",
    "providers",
    "benchmark",
    "demo",
    "download",
    "evaluate",
    "gi",
    "rank",
    "table",
)

app = new_program(
    "scgenept-rt",
    "Predict how single cells respond to gene perturbations with scGenePT, on ONNX Runtime, without PyTorch.",
)
for _name in COMMANDS:
    app.command(_name, cls=Command)(getattr(import_module(f"scgenept_rt.cli.{_name}"), _name))
app.add_typer(plot.app, name="plot")


def main() -> None:
    """Run the command line; errors of the user's input end in one message and exit code 1."""
    os.environ["MPLBACKEND"] = "agg"  # commands write files, and that of a notebook may not be installed here
    run_program(app)
