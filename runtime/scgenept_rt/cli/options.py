"""Options that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer


def one_of(choices: Any) -> Callable[[str], str]:
    """Return the parser of an option that takes the words of a `Literal`.

    typer's own prints "Value error," before what was wrong since it took up pydantic, and puts all words into the
    column of types, which leaves too little of 80 columns for the names of the options.
    """
    words = get_args(choices)

    def parse(text: str) -> str:
        if text not in words:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(words)}")
        return text

    return parse


# Each panel of the help has columns of its own: names stay whole on 80 columns.
NETWORK_PANEL = "The network and what runs it"
CELLS_PANEL = "How the cells are read"

Precision = Literal["auto", "fp32", "fp16"]
MissingGenes = Literal["error", "zero"]

BundleArgument = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE", help="Directory of a bundle; `demo`: the synthetic one that ships with the package."
    ),
]
CellsArgument = Annotated[Path, typer.Argument(metavar="CELLS", help="The cells, .h5ad or .zarr, log1p-normalised.")]
ProviderOption = Annotated[
    str,
    typer.Option(
        "--provider",
        rich_help_panel=NETWORK_PANEL,
        metavar="NAME",
        help="What runs the network: cpu, cuda, tensorrt, tensorrt-rtx or torch; auto takes a usable GPU, else the "
        "CPU, and says so.",
    ),
]


def precision_option(auto: str) -> Any:
    """Return the option of one precision; `auto` says what that word stands for."""
    return typer.Option(
        "--precision",
        rich_help_panel=NETWORK_PANEL,
        metavar="NAME",
        parser=one_of(Precision),
        help=f"fp32 or fp16; auto: {auto}.",
    )


PrecisionOption = Annotated[Precision, precision_option("fp16 on GPUs, fp32 on the CPU")]
DeviceOption = Annotated[
    int | None, typer.Option("--device", rich_help_panel=NETWORK_PANEL, metavar="N", help="Number of the GPU.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        rich_help_panel=NETWORK_PANEL,
        metavar="N",
        min=1,
        help="Threads on the CPU; default: as many as this process may use.",
    ),
]
ReferenceCheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--reference-checkpoint",
        rich_help_panel=NETWORK_PANEL,
        metavar="FILE.pt",
        help="For torch: the checkpoint that the bundle was exported from, if it keeps no weights itself.",
    ),
]
CudaGraphsOption = Annotated[
    bool,
    typer.Option(
        "--cuda-graphs",
        rich_help_panel=NETWORK_PANEL,
        help="For cuda: record batches of 1, 2 and 4 cells as CUDA graphs.",
    ),
]
LayerOption = Annotated[
    str | None, typer.Option("--layer", rich_help_panel=CELLS_PANEL, metavar="NAME", help="Layer to read instead of X.")
]
UseRawOption = Annotated[bool, typer.Option("--use-raw", rich_help_panel=CELLS_PANEL, help="Read raw instead of X.")]
GeneKeyOption = Annotated[
    str | None,
    typer.Option(
        "--gene-key",
        rich_help_panel=CELLS_PANEL,
        metavar="COLUMN",
        help="var column with the gene names, or var_names.",
    ),
]
ConditionKeyOption = Annotated[
    str | None,
    typer.Option(
        "--condition-key",
        rich_help_panel=CELLS_PANEL,
        metavar="COLUMN",
        help="obs column that says what was done to a cell.",
    ),
]
ControlLabelOption = Annotated[
    str | None,
    typer.Option(
        "--control-label", rich_help_panel=CELLS_PANEL, metavar="LABEL", help="Label of control cells in that column."
    ),
]
MissingGenesOption = Annotated[
    MissingGenes,
    typer.Option(
        "--missing-genes",
        rich_help_panel=CELLS_PANEL,
        metavar="NAME",
        parser=one_of(MissingGenes),
        help="What to do about model genes that the input lacks: error, or zero, which takes them as not expressed.",
    ),
]
AllowUnnormalizedOption = Annotated[
    bool,
    typer.Option(
        "--allow-unnormalized", rich_help_panel=CELLS_PANEL, help="Go on with values that do not look log1p-normalised."
    ),
]
