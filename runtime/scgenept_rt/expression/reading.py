"""Reading the control cells of an input for a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Literal

import numpy as np

from scgenept_rt.errors import EmptyCellsError, MissingGenesError, ReadOptionError, check_argument, join_limited
from scgenept_rt.expression.cells_source import CellsSource, as_text, open_cells, text_columns
from scgenept_rt.expression.control_cells import SPILL_BYTES, ControlCells, CsrRowsWriter
from scgenept_rt.expression.labels import find_control_rows
from scgenept_rt.expression.sampling import Sampling
from scgenept_rt.expression.scale import ScaleCheck
from scgenept_rt.genes import GeneMatch, GenePanel, match_columns

if TYPE_CHECKING:
    from anndata import AnnData

VAR_NAMES = "var_names"
# Columns of var that hold gene names or Ensembl ids in public data sets, besides var_names.
GENE_COLUMNS = ("gene_name", "feature_name", "gene_symbols", "gene_ids", "gene_id", "ensembl_id")
LOW_COVERAGE = 0.8
"""Below this share of genes found, an input that is accepted with missing_genes="zero" deserves a warning."""


@dataclass(frozen=True)
class ReadOptions:
    """What to read of an input, and what to accept.

    Attributes
    ----------
    layer
        Layer with the log-normalised values; None for X.
    use_raw
        Read raw (its X and var).
    gene_key
        "var_names" or the var column with the gene names; None to take the one that covers most of the model.
    condition_key, control_label
        The obs column that says what was done to a cell, and its label of control cells; None to look for both.
    missing_genes
        "error", or "zero" to take genes that the input lacks as not expressed.
    allow_unnormalized
        Go on with negative values, raw counts and values that are not log1p.
    """

    layer: str | None = None
    use_raw: bool = False
    gene_key: str | None = None
    condition_key: str | None = None
    control_label: str | None = None
    missing_genes: Literal["error", "zero"] = "error"
    allow_unnormalized: bool = False

    def __post_init__(self) -> None:
        for name in ("layer", "gene_key", "condition_key", "control_label"):
            check_argument(name, getattr(self, name), (str, NoneType), "a name, or None")
        check_argument("missing_genes", self.missing_genes, (str,), "error or zero")
        for name in ("use_raw", "allow_unnormalized"):
            check_argument(name, getattr(self, name), (bool, np.bool_), "True or False")

    @classmethod
    def given(cls, options: ReadOptions | None) -> ReadOptions:
        """Return the options that a caller gave, for None the defaults.

        Raises
        ------
        ArgumentTypeError
            If it is something else.
        """
        if options is None:
            return cls()
        check_argument("read", options, (cls,), "`ReadOptions`, or None")
        return options


def read_control_cells(
    source: str | Path | AnnData,
    panel: GenePanel,
    *,
    options: ReadOptions | None = None,
    sampling: Sampling | None = None,
    spill_bytes: int = SPILL_BYTES,
) -> ControlCells:
    """Read the control cells that a run uses; only these rows are in memory, and above `spill_bytes` not even they.

    Parameters
    ----------
    source
        Path of an .h5ad file or a .zarr directory, or an AnnData. Backed ones and views are read by rows too, but
        of a view of a backed one all rows are loaded. Values are log1p of normalised counts.
    panel
        The model's genes.
    options, sampling
        What to read, and which control cells to use; by default each once.
    spill_bytes
        Size in bytes from which the values go to a temporary file.

    Raises
    ------
    CellsTypeError, CellsNotFoundError, CellsFormatError, EmptyCellsError, ZarrMissingError
        If the input cannot be read.
    ReadOptionError, GeneKeyError
        If it lacks what an option names.
    NoControlCellsError, AmbiguousControlLabelError, UnnamedControlColumnError, TooFewControlCellsError
        If its control cells cannot be told, or are too few.
    MissingGenesError, DuplicateGeneNamesError
        If its genes do not match the model's.
    NonFiniteValueError, NegativeValueError, RawCountsError, NotLogTransformedError
        If the values of the control cells in use are not log-normalised expression.
    """
    options = ReadOptions.given(options)
    sampling = sampling or Sampling()
    if options.use_raw and options.layer is not None:
        raise ReadOptionError(
            "--use-raw", f"the layer {options.layer!r} was asked for as well", "Choose one of the two."
        )
    with open_cells(source, layer=options.layer, use_raw=options.use_raw) as cells:
        if not cells.obs.n_rows or not cells.var.n_rows:
            raise EmptyCellsError(cells.where, cells.obs.n_rows, cells.var.n_rows)
        return _read(cells, panel, options, sampling, spill_bytes)


def _read(
    cells: CellsSource, panel: GenePanel, options: ReadOptions, sampling: Sampling, spill_bytes: int
) -> ControlCells:
    candidates = name_candidates(cells, options.gene_key)
    match = match_columns(panel, candidates, options.gene_key)
    notices = [*match.notices, *accept_missing(cells, panel, match, candidates[match.source], options)]

    control = find_control_rows(cells.obs, cells.where, options.condition_key, options.control_label)
    notices.extend(control.notices)
    drawn = sampling.draw(len(control.rows))
    stored, order = np.unique(drawn, return_inverse=True)
    rows = control.rows[stored]
    names = cells.obs.index()[rows]

    check = ScaleCheck(
        cells.where, panel.names, lambda cell: str(names[cell]), allow_unnormalized=options.allow_unnormalized
    )
    writer = CsrRowsWriter(spill_bytes)
    try:
        for piece in cells.matrix.pieces(rows, match.columns):
            check.check(piece)
            writer.append(piece)
        notices.extend(check.finish())
    except BaseException:
        writer.discard()
        raise
    in_order = len(order) == len(stored) and bool(np.all(np.diff(order) == 1))
    return ControlCells(
        writer.finish(),
        order=None if in_order else order.astype(np.int64),
        obs_names=names if in_order else names[order],
        n_available=len(control.rows),
        match=match,
        condition_key=control.condition_key,
        control_label=control.control_label,
        notices=notices,
    )


def name_candidates(cells: CellsSource, gene_key: str | None) -> dict[str, Sequence[str]]:
    """Return the places that may name the columns, as `match_columns` takes them.

    With a `gene_key`, the others stay: their Ensembl ids tell columns of one name apart.
    """
    candidates: dict[str, Sequence[str]] = {VAR_NAMES: cells.var.index().tolist()}
    for column in dict.fromkeys([*GENE_COLUMNS, *([gene_key] if gene_key else [])]):
        if column in cells.var.columns:
            candidates[column] = as_text(cells.var.column(column)).tolist()
        elif column == gene_key == cells.var.index_name:
            candidates[column] = candidates[VAR_NAMES]
    if gene_key is not None and gene_key not in candidates:
        # Let the message list every column, not only those that were tried.
        candidates.update((column, []) for column in cells.var.columns)
    return candidates


def accept_missing(
    cells: CellsSource, panel: GenePanel, match: GeneMatch, names: Sequence[str], options: ReadOptions
) -> list[str]:
    """Return notices on the model's genes that an input lacks, or raise `MissingGenesError` if these are needed."""
    if not match.missing:
        return []
    if options.missing_genes == "error" or not match.n_found:
        missing = {name.casefold() for name in match.missing}
        other_case = [name for name in names if name.casefold() in missing]
        columns = [] if match.n_found else [name for name, _ in text_columns(cells.var) if name != match.source]
        raise MissingGenesError(
            cells.where, match.missing, len(panel), match.source, names, cells.raw_n_vars, other_case, columns
        )
    notices = [
        f"Genes of the model that the input lacks were taken as not expressed ({len(match.missing):,}): "
        f"{join_limited(match.missing)}."
    ]
    if match.n_found < LOW_COVERAGE * len(panel):
        notices.append(f"Warning: {low_coverage(match.n_found, len(panel))}")
    return notices


def low_coverage(n_found: int, n_genes: int) -> str:
    """Return the sentence on an input that has few of a model's genes."""
    share = f"only {n_found / n_genes:.0%}" if n_found >= 0.01 * n_genes else "less than 1%"
    return (
        f"{share} of what the model reads is measured: it will run, but such cells are far from those that it was "
        "trained on, and its predictions may mean little."
    )
