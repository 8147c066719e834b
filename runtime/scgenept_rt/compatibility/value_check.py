"""Scale of the values, from a sample of the control cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from scgenept_rt.compatibility.finding import Finding
from scgenept_rt.errors import ExpressionValueError, Notice, UseOption, compose, pluralize
from scgenept_rt.expression import OpenedCells, Sampling
from scgenept_rt.expression.count_signature import ALIKE_WITHIN, LOG1P, Signature
from scgenept_rt.expression.scale import MAX_LOG1P
from scgenept_rt.genes import GeneMatch, GenePanel

MAX_CELLS = 256


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
    cells: OpenedCells,
    panel: GenePanel | None,
    match: GeneMatch | None,
    control_rows: NDArray[np.int64] | None,
    dataset: str,
) -> tuple[Values, Finding, Any]:
    """Look at up to `MAX_CELLS` control cells (any cells if these are not known); return these as `csr_array` too."""
    rows = np.arange(cells.n_obs, dtype=np.int64) if control_rows is None else control_rows
    n_candidates = len(rows)
    if n_candidates > MAX_CELLS:
        rows = rows[Sampling("all", MAX_CELLS).draw(n_candidates)]
    every = np.arange(cells.var.n_rows, dtype=np.int64)
    names, columns = cells.var.index().tolist(), every
    if panel is not None and match is not None and match.n_found:
        names, columns = list(panel.names), match.columns
    sample = csr_array(vstack(list(cells.matrix.batches(rows, columns)), format="csr"))
    signature, fault = cells.find_scale_fault(cells.sample(rows, columns), panel.training_total if panel else None)
    finite = sample.data[np.isfinite(sample.data)].astype(np.float64)
    has_zeros = sample.nnz < len(rows) * np.count_nonzero(columns >= 0) or not finite.size
    bounds = np.append(finite, 0.0) if has_zeros else finite
    log1p = signature if signature is not None and signature.transform in (LOG1P, None) else None
    values = Values(
        n_cells=len(rows),
        n_candidates=n_candidates,
        minimum=float(bounds.min()),
        maximum=float(bounds.max()),
        log1p_of_whole=log1p is not None and log1p.unnormalised,
        totals=_spread(log1p.totals) if log1p is not None and bounds.max() <= MAX_LOG1P else None,
    )
    check = cells.scale_check(names, rows, fault)
    try:
        check.check(sample)
        notices = check.finish()
    except ExpressionValueError as error:
        return values, Finding.from_error("scale", error), sample
    return values, _finding(values, notices, signature, dataset), sample


def _spread(totals: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(totals.min()), float(np.median(totals)), float(totals.max())


def _finding(values: Values, notices: list[str], signature: Signature | None, dataset: str) -> Finding:
    looked_at = f"{values.n_cells:,} of {pluralize(values.n_candidates, 'cell')} looked at"
    text = f"Values from {values.minimum:.3g} to {values.maximum:.3g} ({looked_at})"
    if notices:
        return Finding(
            "scale", "note", " ".join([f"{text}.", *(_problem(notice) for notice in notices)]), *_steps(notices)
        )
    if signature is None or values.totals is None or signature.transform is None:
        return Finding("scale", "note", f"{text}, too few to tell whether they are log1p of normalised counts")
    low, median, high = values.totals
    if high - low > ALIKE_WITHIN * median:
        text += f", log1p; expm1 sums to {low:,.0f} to {high:,.0f} per cell, not to one total, as where genes were "
        return Finding("scale", "ok", f"{text}dropped after normalising")
    text += f", log1p, normalised to a total of {median:,.0f} per cell"
    if dataset == "norman" and abs(median - 1e4) <= ALIKE_WITHIN * 1e4:
        text += ". The Norman training data were normalised to the median total of their cells, not to 10,000"
    return Finding("scale", "ok", text)


def _problem(notice: str) -> str:
    return compose(notice.problem) if isinstance(notice, Notice) else notice


def _steps(notices: list[str]) -> tuple[str, tuple[UseOption, ...]]:
    return next(((notice.remedy, notice.options) for notice in notices if isinstance(notice, Notice)), ("", ()))
