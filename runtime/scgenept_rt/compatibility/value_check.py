"""Scale of the values, from a sample of the control cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.errors import ExpressionValueError, pluralize
from scgenept_rt.expression import OpenedCells, Sampling
from scgenept_rt.expression.matrix_rows import CompressedColumns
from scgenept_rt.genes import GeneMatch, GenePanel

MAX_CELLS = 256
# Float32 log1p values give back a count to about 1e-6 of it, so larger ones say nothing about being whole.
_WHOLE_UP_TO, _WHOLE_WITHIN = 1e4, 1e-3
_CONSTANT_WITHIN = 0.01


@dataclass(frozen=True)
class Values:
    """What a sample of cells looks like, over the model's genes (over all genes if none was found).

    `log1p_of_whole`: all values are the log1p of whole numbers, counts that were not normalised. `totals`: minimum,
    median and maximum over cells of the sum of expm1 over all genes (over the model's genes if the others cost too much
    to read), None if values are not log1p.
    """

    n_cells: int
    n_candidates: int
    minimum: float
    maximum: float
    log1p_of_whole: bool
    totals: tuple[float, float, float] | None


def check_values(
    cells: OpenedCells, panel: GenePanel, match: GeneMatch | None, control_rows: NDArray[np.int64] | None, dataset: str
) -> tuple[Values, Finding, Any]:
    """Look at up to `MAX_CELLS` control cells (any cells if these are not known); return these as `csr_array` too."""
    rows = np.arange(cells.n_obs, dtype=np.int64) if control_rows is None else control_rows
    n_candidates = len(rows)
    if n_candidates > MAX_CELLS:
        rows = rows[Sampling("all", MAX_CELLS).draw(n_candidates)]
    every = np.arange(cells.var.n_rows, dtype=np.int64)
    names, columns = cells.var.index().tolist(), every
    if match is not None and match.n_found:
        names, columns = list(panel.names), match.columns
    sample = whole = _stacked(cells.matrix.batches(rows, columns))
    if not isinstance(cells.matrix, CompressedColumns):  # of these, all values of all genes would have to be read
        whole = _stacked(cells.matrix.batches(rows, every))
    finite = sample.data[np.isfinite(sample.data)].astype(np.float64)
    has_zeros = sample.nnz < len(rows) * np.count_nonzero(columns >= 0) or not finite.size
    bounds = np.append(finite, 0.0) if has_zeros else finite
    counts = np.expm1(finite[finite < np.log1p(_WHOLE_UP_TO)])
    values = Values(
        n_cells=len(rows),
        n_candidates=n_candidates,
        minimum=float(bounds.min()),
        maximum=float(bounds.max()),
        log1p_of_whole=bool(counts.size and np.all(np.abs(counts - np.rint(counts)) < _WHOLE_WITHIN)),
        totals=_totals(whole),
    )
    check = cells.scale_check(names, rows)
    try:
        check.check(sample)
        notices = check.finish()
    except ExpressionValueError as error:
        return values, Finding.from_error("scale", error), sample
    return values, _finding(values, notices, cells, dataset), sample


def _stacked(batches: Any) -> Any:
    from scipy.sparse import csr_array, vstack

    return csr_array(vstack(list(batches), format="csr"))


def _totals(sample: Any) -> tuple[float, float, float] | None:
    data = sample.data.astype(np.float64)
    if not data.size or not np.all(np.isfinite(data)) or not 0 <= data.min() <= data.max() <= 20:
        return None
    row_of_value = np.repeat(np.arange(sample.shape[0]), np.diff(sample.indptr))
    sums = np.bincount(row_of_value, weights=np.expm1(data), minlength=sample.shape[0])
    return float(sums.min()), float(np.median(sums)), float(sums.max())


def _finding(values: Values, notices: list[str], cells: OpenedCells, dataset: str) -> Finding:
    looked_at = f"{values.n_cells:,} of {pluralize(values.n_candidates, 'cell')} looked at"
    text = f"Values from {values.minimum:.3g} to {values.maximum:.3g} ({looked_at})"
    if values.totals is None:
        text = " ".join([f"{text}.", *notices])
        return Finding("scale", "note", text, "Check that this is the right matrix", tuple(cells.other_matrices()))
    if values.log1p_of_whole:
        text += ", log1p of whole counts that were not normalised"
        return Finding("scale", "note", text, "Before log1p run `sc.pp.normalize_total(adata)`, on all genes")
    if notices:
        return Finding("scale", "note", " ".join([f"{text}.", *notices]))
    low, median, high = values.totals
    if high - low > _CONSTANT_WITHIN * median:
        text += f", log1p; expm1 sums to {low:,.0f} to {high:,.0f} per cell, not to one total, as where genes were "
        return Finding("scale", "ok", f"{text}dropped after normalising")
    text += f", log1p, normalised to a total of {median:,.0f} per cell"
    if dataset == "norman" and abs(median - 1e4) <= 1e4 * _CONSTANT_WITHIN:
        text += ". The Norman training data were normalised to the median total of their cells, not to 10,000"
        remedy = "Nearer to these: `sc.pp.normalize_total(adata)` without target_sum, then `sc.pp.log1p(adata)`"
        return Finding("scale", "note", text, remedy)
    return Finding("scale", "ok", text)
