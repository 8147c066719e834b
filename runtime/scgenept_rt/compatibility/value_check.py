"""Scale of the values, from a sample of the control cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.errors.core import ExpressionValueError, pluralize
from scgenept_rt.expression import OpenedCells, Sampling
from scgenept_rt.expression.matrix_rows import CompressedColumns
from scgenept_rt.genes import GeneMatch, GenePanel

MAX_CELLS = 256
# Float32 log1p values give back a count to about 1e-6 of it, so larger ones say nothing about being whole.
_WHOLE_UP_TO, _WHOLE_WITHIN = 1e4, 1e-3
_CONSTANT_WITHIN = 0.01


@dataclass(frozen=True)
class Spread:
    """Median and range over cells."""

    median: float
    minimum: float
    maximum: float

    @property
    def constant(self) -> bool:
        """Whether all cells have the same value, within 1%."""
        return self.maximum - self.minimum <= _CONSTANT_WITHIN * abs(self.median)

    def __str__(self) -> str:
        if self.constant:
            return f"{self.median:,.0f}"
        return f"{self.median:,.0f} ({self.minimum:,.0f} to {self.maximum:,.0f})"


@dataclass(frozen=True, eq=False)
class Values:
    """What a sample of cells looks like, over the model's genes, or over all genes if these were not found.

    Attributes
    ----------
    n_cells, n_candidates
        How many cells were looked at, and of how many.
    minimum, maximum
        Of all finite values, zeros included.
    n_non_finite, n_negative
        How many values are NaN or infinite, and how many negative.
    whole, log1p_of_whole
        Whether all values are whole numbers (raw counts), or the log1p of whole numbers (counts not normalised).
    total, total_of_file
        Sum of expm1 per cell, over these genes, and over all genes of the file (None if that costs too much to read).
    n_expressed
        Non-zero genes per cell.
    sample
        The cells as `csr_array` [n_cells, n_genes] in model gene order, None if the genes were not found.
    """

    n_cells: int
    n_candidates: int
    minimum: float
    maximum: float
    n_non_finite: int
    n_negative: int
    whole: bool
    log1p_of_whole: bool
    total: Spread | None
    total_of_file: Spread | None
    n_expressed: Spread
    sample: Any = field(repr=False)


def check_values(
    cells: OpenedCells, panel: GenePanel, match: GeneMatch | None, control_rows: NDArray[np.int64] | None, dataset: str
) -> tuple[Values, Finding]:
    """Look at up to `MAX_CELLS` of the control cells (of all cells if these are not known), drawn with a fixed seed."""
    rows = np.arange(cells.n_obs, dtype=np.int64) if control_rows is None else control_rows
    n_candidates = len(rows)
    if n_candidates > MAX_CELLS:
        rows = rows[Sampling("all", MAX_CELLS).draw(n_candidates)]
    every = np.arange(cells.var.n_rows, dtype=np.int64)
    if match is not None and match.n_found:
        names, columns, matched = panel.names, match.columns, True
    else:
        names, columns, matched = tuple(cells.var.index().tolist()), every, False
    sample = _stacked(cells.matrix.pieces(rows, columns))
    # Of compressed columns, all values of all genes would have to be read.
    whole_file = None if isinstance(cells.matrix, CompressedColumns) else _stacked(cells.matrix.pieces(rows, every))
    values = _measured(sample, whole_file, n_candidates, int(np.count_nonzero(columns >= 0)), matched=matched)
    try:
        check = cells.scale_check(names, rows)
        check.check(sample)
        notices = check.finish()
    except ExpressionValueError as error:
        return values, Finding.from_error("scale", error)
    return values, _finding(values, notices, cells, dataset)


def _stacked(batches: Any) -> Any:
    from scipy.sparse import csr_array, vstack

    return csr_array(vstack(list(batches), format="csr"))


def _measured(sample: Any, whole_file: Any, n_candidates: int, n_found: int, *, matched: bool) -> Values:
    data = sample.data
    finite = data[np.isfinite(data)]
    has_zeros = sample.nnz < sample.shape[0] * n_found or not finite.size
    bounds = np.append(finite, 0.0) if has_zeros else finite
    counts = np.expm1(finite[finite < np.log1p(_WHOLE_UP_TO)].astype(np.float64))
    whole = bool(np.all(finite == np.rint(finite)))
    return Values(
        n_cells=sample.shape[0],
        n_candidates=n_candidates,
        minimum=float(bounds.min()),
        maximum=float(bounds.max()),
        n_non_finite=int(data.size - finite.size),
        n_negative=int(np.count_nonzero(finite < 0)),
        whole=whole,
        log1p_of_whole=bool(counts.size and np.all(np.abs(counts - np.rint(counts)) < _WHOLE_WITHIN)) and not whole,
        total=_totals(sample),
        total_of_file=None if whole_file is None else _totals(whole_file),
        n_expressed=_spread(np.diff(sample.indptr)),
        sample=sample if matched else None,
    )


def _totals(sample: Any) -> Spread | None:
    """Return the sums of expm1 over cells; None for values that are not log1p."""
    data = sample.data.astype(np.float64)
    if not np.all(np.isfinite(data)) or (data.size and not 0 <= data.min() <= data.max() <= 20):
        return None
    row_of_value = np.repeat(np.arange(sample.shape[0]), np.diff(sample.indptr))
    return _spread(np.bincount(row_of_value, weights=np.expm1(data), minlength=sample.shape[0]))


def _spread(per_cell: NDArray[Any]) -> Spread:
    return Spread(float(np.median(per_cell)), float(per_cell.min()), float(per_cell.max()))


def _finding(values: Values, notices: list[str], cells: OpenedCells, dataset: str) -> Finding:
    looked_at = pluralize(values.n_cells, "cell")
    if values.n_cells < values.n_candidates:
        looked_at = f"{values.n_cells:,} of {values.n_candidates:,} cells"
    text = f"Values from {values.minimum:.3g} to {values.maximum:.3g} ({looked_at} looked at)"
    if values.total is None or values.total.maximum == 0:
        options = tuple(cells.other_matrices())
        return Finding("scale", "note", ". ".join([text, *notices]), "Check that this is the right matrix", options)
    if values.log1p_of_whole:
        text += ", log1p of whole counts that were not normalised"
        return Finding("scale", "note", text, "Before log1p run `sc.pp.normalize_total(adata)`, on all genes")
    if notices:
        return Finding("scale", "note", ". ".join([text, *notices]))
    total = values.total_of_file
    if total is None:
        return Finding("scale", "ok", f"{text}, log1p; expm1 sums to {values.total} per cell over the model's genes")
    text += f", log1p; expm1 sums to {total} per cell"
    if not total.constant:
        return Finding("scale", "ok", f"{text}, not to one total, as where genes were dropped after normalising")
    if dataset == "norman" and abs(total.median - 1e4) <= 1e4 * _CONSTANT_WITHIN:
        remedy = "Nearer to these: `sc.pp.normalize_total(adata)` without target_sum, then `sc.pp.log1p(adata)`"
        text += ". The Norman training data were normalised to the median total of their cells, not to 10,000"
        return Finding("scale", "note", text, remedy)
    return Finding("scale", "ok", text)
