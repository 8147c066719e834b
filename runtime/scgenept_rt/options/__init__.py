"""The options that functions and commands share: what runs the network, how cells are read, what is predicted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from scgenept_rt.errors import UseOption
from scgenept_rt.options.declaration import Option, checked, declared_options, resolve

__all__ = [
    "Aggregate",
    "EngineOptions",
    "FigureOptions",
    "FileOptions",
    "Metric",
    "Option",
    "PredictFileOptions",
    "PredictOptions",
    "ReadOptions",
    "SampleOptions",
    "SamplingMode",
    "SharedPredictOptions",
    "checked",
    "declared_options",
    "resolve",
]

Aggregate = Literal["mean", "cells", "both"]
SamplingMode = Literal["all", "random", "upstream"]
Metric = Literal["cosine", "pearson", "distance"]

MOST_CELLS_PER_BATCH = 65_536
FEWER_PREDICTIONS = UseOption("max_error", "use only as many control cells as the means need", 0.01)
FEWER_CONTROLS = UseOption("n_controls", "use fewer control cells")
_MOST_THREADS = max(128, os.cpu_count() or 1)
"""Hundreds more than there are CPUs stall for minutes."""


class EngineOptions(TypedDict, total=False):
    """What runs the network."""

    provider: Annotated[
        str,
        Option(
            "auto",
            "Execution provider: cpu, cuda, tensorrt, tensorrt-rtx or torch; auto takes a usable GPU, else the CPU.",
            "NAME",
        ),
    ]
    precision: Annotated[
        Literal["auto", "fp32", "fp16"], Option("auto", "fp32 or fp16; auto: fp16 on GPUs, fp32 on the CPU.", "NAME")
    ]
    device: Annotated[
        int | list[int] | Literal["all"] | None,
        Option(None, "Number of the GPU; several of one model, such as 0,2, or all.", "N", minimum=0),
    ]
    threads: Annotated[
        int | None,
        Option(
            None, "Threads on the CPU; default: as many as this process may use.", "N", minimum=1, maximum=_MOST_THREADS
        ),
    ]
    reference_checkpoint: Annotated[
        str | Path | None,
        Option(
            None,
            "For the provider torch: the checkpoint that the bundle was exported from, if the bundle keeps no weights.",
            "FILE.pt",
        ),
    ]


class ReadOptions(TypedDict, total=False):
    """How cells are read, and what to accept."""

    layer: Annotated[str | None, Option(None, "Layer with the log1p-normalised values; default: X.", "NAME")]
    use_raw: Annotated[bool, Option(False, "Read raw (its X and var) instead of X.")]
    gene_key: Annotated[
        str | None,
        Option(
            None, "var column with the gene names, or var_names; default: the one with most of the genes.", "COLUMN"
        ),
    ]
    condition_key: Annotated[
        str | None,
        Option(None, "obs column with the perturbation of each cell; default: found by its labels.", "COLUMN"),
    ]
    control_label: Annotated[
        str | list[str] | None,
        Option(
            None,
            "Label of control cells in that column, or a pattern such as non-targeting*; may be repeated (in Python: a "
            "list). Default: ctrl, control or non-targeting.",
            "LABEL",
        ),
    ]
    missing_genes: Annotated[
        Literal["error", "zero"],
        Option("error", "Genes that the input lacks: error, or zero to take them as not expressed.", "NAME"),
    ]
    allow_unnormalized: Annotated[bool, Option(False, "Accept values that do not look log1p-normalised.")]


class SampleOptions(TypedDict, total=False):
    """How many control cells are predicted from."""

    n_controls: Annotated[int | None, Option(None, "Control cells to use; default: all.", "N", minimum=1)]
    seed: Annotated[int, Option(0, "Seed of the draw of control cells.", "N", minimum=0, maximum=2**32 - 1)]


class SharedPredictOptions(SampleOptions, total=False):
    """Which control cells are predicted from, and how: all of `PredictOptions` but the aggregate."""

    sampling: Annotated[
        SamplingMode,
        Option(
            "all",
            "all: each control cell once, in order; random: without replacement; upstream: the published code's draw.",
            "NAME",
        ),
    ]
    groupby: Annotated[
        str | None,
        Option(
            None,
            "obs column with groups of control cells, such as cell_type: predict from each group on its own.",
            "COLUMN",
        ),
    ]
    max_error: Annotated[
        float | None,
        Option(
            None,
            "Predict only as many control cells (at least 8) as keep the sampling error of every gene's mean within T.",
            "T",
            above=0,
            requires={"aggregate": "mean"},
        ),
    ]
    n_controls_per_perturbation: Annotated[
        int | None,
        Option(
            None,
            "Predict at most N of the control cells for each perturbation, and estimate the mean over all.",
            "N",
            minimum=2,
            requires={"aggregate": "mean"},
        ),
    ]
    batch_size: Annotated[
        int | Literal["auto"],
        Option("auto", "Cells per batch; auto follows the free memory.", "N", minimum=1, maximum=MOST_CELLS_PER_BATCH),
    ]
    var_names: Annotated[
        Literal["input", "symbol", "ensembl"],
        Option("input", "Names of the genes in the output: as in the input, symbol or ensembl.", "NAME"),
    ]


class PredictOptions(SharedPredictOptions, total=False):
    """What is predicted, and from which control cells."""

    aggregate: Annotated[
        Aggregate,
        Option(
            "mean",
            "mean: one row per perturbation, with delta and sem; cells: one per (perturbation, control cell); both.",
            "NAME",
        ),
    ]


class FigureOptions(TypedDict, total=False):
    """How figures are written."""

    title: Annotated[str | None, Option(None, "Title instead of the figure's own.", "TEXT")]
    dpi: Annotated[int, Option(200, "Dots per inch of a .png.", "N", minimum=50, maximum=1200)]


class FileOptions(TypedDict, total=False):
    """How predictions are written to files."""

    overwrite: Annotated[bool, Option(False, "Replace an output that exists.")]
    resume: Annotated[bool, Option(False, "Continue an interrupted run.")]
    shard: Annotated[
        str | None,
        Option(
            None,
            "Predict part I of N only, into OUT.shard-I-of-N.h5ad; `scgenept-rt merge OUT` joins the N parts.",
            "I/N",
        ),
    ]
    resume_command: Annotated[str, Option("", "Command that continues this run, for messages.", flag=None)]
    for_cell_eval: Annotated[
        bool,
        Option(
            False,
            "Write cells as cell-eval compares them with CELLS: its genes and labels, values clipped at 0.",
            requires={"aggregate": "cells", "var_names": "input"},
        ),
    ]
    predicted_controls: Annotated[
        bool,
        Option(
            False,
            "In the cell-eval format, predict the control cells too, without a perturbation.",
            requires={"for_cell_eval": True},
        ),
    ]
    cell_eval_column: Annotated[
        str | None,
        Option(
            None,
            "obs column of perturbations in the cell-eval format; default: as in the input.",
            "COLUMN",
            requires={"for_cell_eval": True},
        ),
    ]


class PredictFileOptions(PredictOptions, FileOptions, total=False):
    """What is predicted, and how it is written."""
