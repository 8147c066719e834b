"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

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
        metavar="[auto|cpu|cuda|tensorrt|tensorrt-rtx|torch]",
        help="What runs the network; auto takes a usable GPU, else the CPU, and says so.",
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "fp16"],
    typer.Option(
        "--precision",
        help="auto: fp16 on GPUs, fp32 on the CPU.",
    ),
]
DeviceOption = Annotated[int | None, typer.Option("--device", metavar="N", help="Number of the GPU.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads on the CPU; default: as many as this process may use."),
]
ReferenceCheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--reference-checkpoint",
        metavar="FILE.pt",
        help="For torch: the checkpoint that the bundle was exported from, if it keeps no weights itself.",
    ),
]
CudaGraphsOption = Annotated[
    bool,
    typer.Option("--cuda-graphs", help="For cuda: record batches of 1, 2 and 4 cells as CUDA graphs."),
]
LayerOption = Annotated[str | None, typer.Option("--layer", metavar="NAME", help="Layer to read instead of X.")]
UseRawOption = Annotated[bool, typer.Option("--use-raw", help="Read raw instead of X.")]
GeneKeyOption = Annotated[
    str | None, typer.Option("--gene-key", metavar="COLUMN", help="var column with the gene names, or var_names.")
]
ConditionKeyOption = Annotated[
    str | None,
    typer.Option("--condition-key", metavar="COLUMN", help="obs column that says what was done to a cell."),
]
ControlLabelOption = Annotated[
    str | None, typer.Option("--control-label", metavar="LABEL", help="Label of control cells in that column.")
]
MissingGenesOption = Annotated[
    Literal["error", "zero"],
    typer.Option(
        "--missing-genes",
        help="What to do about model genes that the input lacks; zero takes them as not expressed.",
    ),
]
AllowUnnormalizedOption = Annotated[
    bool, typer.Option("--allow-unnormalized", help="Go on with values that do not look log1p-normalised.")
]
