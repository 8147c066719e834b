"""Check that values are log1p-normalised expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, ExpressionValueError, UseOption
from scgenept_rt.expression.count_signature import (
    LINEAR,
    LOG1P,
    MAX_CELLS,
    TRANSFORMS,
    Signature,
    Transform,
    divided_by_gene,
    logarithm,
    read_signature,
)
from scgenept_rt.expression.matrix_rows import CompressedColumns
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from scgenept_rt.expression.opened_cells import OpenedCells

# log1p of a count stays below 20 up to 485 million counts of one gene in a cell.
MAX_LOG1P = 20.0
# Whole numbers up to 2 may be a small or binary sample; counts of real cells go further.
_MIN_RAW_COUNT = 3.0
_NORMALIZE = "`sc.pp.normalize_total(adata); sc.pp.log1p(adata)`"
_FROM_COUNTS = f"Take the counts and normalise them: {_NORMALIZE}"
_USUAL_TOTAL = 1e4
"""About the total of the training data where a bundle does not state it: mostly the median of their cells."""
_FAR, _FAR_FROM_STATED, _OUTSIDE = 5.0, 3.0, 20.0
"""Ratios to that total, or to a stated one, from which a warning is given, and from which values are refused."""
_DEEPEST = 100_000
"""Counts of a cell, beyond which it was not normalised to the usual total over all genes."""
_ALL_GENES = 7_000
"""Columns from which an input has all genes that were measured."""
_MIN_WHOLE = 0.3
_PERCENT = 100.0
_MIN_DENOISED = 0.65
"""Share of values that are not zero in smoothed or denoised cells; counts that were corrected stay sparse."""
_MIN_CELLS, _MIN_GENES = 8, 20
"""Cells and genes from which negative values are judged."""
_CENTRED = 1e-3
"""Mean of a cell, in standard deviations, up to which its values sum to 0."""
_BELOW, _MIN_BELOW, _MIN_MEAN = -0.05, 0.2, 0.2
"""Mean of a gene, in standard deviations, from which it is below 0, the share of such genes in centred values, and the
mean of all values that centred ones do not reach."""
_MIN_REPEATED = 0.2
_MIN_NEGATIVE = 0.01


@dataclass(frozen=True)
class ScaleFault:
    """What is wrong with a scale; if not `certain`, the values themselves may have another reason."""

    problem: str
    remedy: str
    certain: bool = True
    below_zero: bool = False


_NO_TRACE = ScaleFault(
    "Values show no trace of counts: undone, those of a cell are not whole multiples of one value, as log1p of "
    "normalised counts is. The model was not trained on smoothed, imputed or corrected values, or on counts that are "
    "not log1p, so its predictions may be off",
    "Give the log1p of normalised counts, if there are any",
    certain=False,
)


def judge_scale(
    cells: OpenedCells, rows: NDArray[np.int64], columns: NDArray[np.int64], training_total: float | None
) -> tuple[Signature | None, ScaleFault | None]:
    """Return what a few of these cells went through, and what is wrong with that.

    They are judged over all genes, or over those of `columns` where that would read everything. Neither is known
    without values, or if some are not finite; the signature is not known if some are negative. `training_total` is the
    total per cell of the training data, if it is known.
    """
    from scipy.sparse import csr_array, vstack

    if not len(rows):
        return None, None
    few = rows[np.unique(np.linspace(0, len(rows) - 1, MAX_CELLS).astype(np.int64))]
    chosen = columns if isinstance(cells.matrix, CompressedColumns) else np.flatnonzero(cells.is_gene)
    sample = csr_array(vstack(list(cells.matrix.batches(few, chosen)), format="csr"))
    data = sample.data[np.isfinite(sample.data)]
    if not data.size or (data.min() < 0 and data.size < sample.data.size):
        return None, None
    if data.min() < 0:
        return None, _fault_of_negative(sample)
    base = _logarithm_base(cells)
    signature = read_signature(sample, TRANSFORMS if base is None else (*TRANSFORMS, logarithm(base)))
    return signature, _fault(signature, sample, data, base, training_total)


def _logarithm_base(cells: OpenedCells) -> float | None:
    """Return the base of the logarithm of X, as `sc.pp.log1p` records it; None for e, or if it records none."""
    if cells.options["layer"] is not None or cells.options["use_raw"]:
        return None
    try:
        base = float(cells.uns["log1p"]["base"])
    except (TypeError, ValueError, LookupError):
        return None
    return base if base > 1 and not np.isclose(base, np.e) else None


def _fault(
    signature: Signature, sample: Any, data: NDArray[Any], base: float | None, training_total: float | None
) -> ScaleFault | None:
    expected, found = training_total or _USUAL_TOTAL, signature.transform
    if found is LOG1P:
        fault = _fault_of_log1p(signature, sample.shape[1], training_total)
        estimated = signature.n_judged > 0 == signature.n_alike and data.size > _MIN_DENOISED * np.prod(sample.shape)
        return _NO_TRACE if fault is None and estimated else fault
    cells = f"{signature.n_alike:,} of {pluralize(signature.n_judged, 'cell')}" if signature.n_alike else "the cells"
    if found is LINEAR:
        if not signature.n_alike and signature.total != 1 and data.max() <= MAX_LOG1P:
            problem = f"the values of {cells} are normalised to one total, before a logarithm or after it"
            return ScaleFault(problem, _FROM_COUNTS)
        kind = "counts, some of them corrected or estimated"
        if not signature.unnormalised:
            kind = "normalised, but no logarithm was taken"
        return ScaleFault(f"the values of {cells} are {kind}", _step(signature, found, expected))
    if found is not None:
        undone = "whole multiples of one value per cell, as counts are" if signature.n_alike else "equal totals"
        problem = f"the values of {cells} are {found.name} and not log1p: undone, they are {undone}"
        return ScaleFault(problem, _step(signature, found, expected))
    if data.max() >= _MIN_RAW_COUNT and np.mean(data == np.rint(data)) >= _MIN_WHOLE:
        problem = "many values are whole numbers and the others are not, as counts that were corrected or estimated"
        return ScaleFault(problem, f"Normalise them: {_NORMALIZE}")
    if base is not None:
        remedy = f"Convert them: `adata.X = {logarithm(base).log1p}; adata.uns['log1p']['base'] = None`"
        return ScaleFault(f"uns['log1p'] says that values are {logarithm(base).name} and not log1p", remedy)
    if signature.n_judged and divided_by_gene(sample):
        problem = "the values of each gene were divided by a number of its own, as in centred log-ratios (CLR) of genes"
        return ScaleFault(problem, _FROM_COUNTS)
    return _NO_TRACE if signature.n_judged else None


def _fault_of_log1p(signature: Signature, n_genes: int, training_total: float | None) -> ScaleFault | None:
    expected = training_total or _USUAL_TOTAL
    step = _step(signature, LOG1P, expected)
    if signature.other is not None:
        other, n = signature.other
        of_cells = f"{n:,} of {pluralize(signature.n_judged, 'cell')}"
        problem = f"{of_cells} that were looked at are on another scale ({other.name}) than the others (log1p)"
        return ScaleFault(problem, "Bring all cells to one scale", certain=False)
    if signature.unnormalised:
        problem = "Values are log1p of whole counts that were not normalised: they differ with the depth of a cell"
        return ScaleFault(problem, step, certain=False)
    total, unit = signature.total, signature.unit
    if signature.centred_log_ratio or (total is None and signature.differs_with_depth):
        problem = "the counts of each cell were not divided by their total, as in centred log-ratios (CLR)"
        return ScaleFault(problem, step, certain=signature.centred_log_ratio)
    least = float(np.median(signature.totals))
    ratio, far = (total or least) / expected, _FAR_FROM_STATED if training_total else _FAR
    all_genes = n_genes >= _ALL_GENES or 0 < unit < expected / _DEEPEST
    if ratio > far or total == 1 or (total is not None and all_genes and ratio < 1 / far):
        problem = f"Cells were normalised to a total of {'' if total else 'more than '}{total or least:,.0f}"
        trained = f"training data have {'' if training_total else 'about '}{expected:,.0f}"
        step = f"Convert them: `{_rescaled(LOG1P, total, expected)}`" if total else _FROM_COUNTS
        certain = not 1 / _OUTSIDE < ratio < _OUTSIDE
        return ScaleFault(f"{problem}, but {trained}", step, certain)
    several = signature.separate_totals
    if several and several[-1] > far * several[0]:
        problem = f"Cells were normalised to different totals ({', '.join(f'{entry:,.0f}' for entry in several)})"
        step = f"sc.pp.normalize_total(adata, target_sum={expected:g}); sc.pp.log1p(adata)"
        return ScaleFault(problem, f"Normalise all to one: `adata.X = np.expm1(adata.X); {step}`", certain=False)
    dropped = total is None and least <= _PERCENT and 0 < unit < expected / _DEEPEST
    if dropped or (total is not None and np.isclose(total, _PERCENT, rtol=1e-5)):
        problem = f"Undone, values sum to {least:,.3g} per cell, as percent{' of which genes were dropped' * dropped}"
        return ScaleFault(problem, f"If they are percent: `{_rescaled(LOG1P, _PERCENT, expected)}`", certain=False)
    return None


def _step(signature: Signature, transform: Transform, expected: float) -> str:
    """Return the line of Python that turns the values into log1p of normalised counts."""
    if signature.unnormalised or signature.centred_log_ratio or signature.differs_with_depth:
        assign = "" if transform is LINEAR else f"adata.X = {transform.linear}; "
        return f"Normalise them: `{assign}sc.pp.normalize_total(adata); sc.pp.log1p(adata)`"
    total, few_genes = signature.total, expected / _DEEPEST < signature.unit
    if total is not None and (total > _FAR * expected or (total < expected / _FAR and not few_genes)):
        return f"Convert them: `{_rescaled(transform, total, expected)}`"
    return f"Convert them: `adata.X = {transform.log1p}`"


def _rescaled(transform: Transform, total: float, expected: float) -> str:
    return f"adata.X = np.log1p({transform.linear} * {expected / total:.4g})"


def _fault_of_negative(sample: Any) -> ScaleFault | None:
    """Name the step that made values negative; None if there are too few cells or genes to tell."""
    values = sample[:MAX_CELLS].toarray().astype(np.float64)
    if values.shape[0] < _MIN_CELLS or values.shape[1] < _MIN_GENES:
        return None
    spread = values.std()
    if np.abs(values.mean(axis=1)).max() < _CENTRED * spread:
        kind, step = "centred log-ratios (CLR), which sum to 0 in each cell", "that step"
    elif np.mean(values.mean(axis=0) < _BELOW * spread) < _MIN_BELOW and values.mean() > _MIN_MEAN * spread:
        # A correction leaves few zeros, and falls below 0 in more than single values.
        if np.count_nonzero(values) < values.size / 2 or np.mean(values < 0) < _MIN_NEGATIVE:
            return None
        problem = "Some values are negative, as in log expression that was corrected for batches or covariates"
        remedy = "Set these to 0: `adata.X = adata.X.clip(0)`"
        return ScaleFault(problem, remedy, certain=False, below_zero=True)
    # Scaled, the zeros of a gene are still one value; residuals depend on the cell.
    elif np.mean(np.diff(np.sort(values, axis=0), axis=0) == 0) > _MIN_REPEATED:
        kind, step = "z-scores, centred and scaled by gene", "`sc.pp.scale`"
    else:
        kind, step = "residuals by gene, as Pearson residuals are", "`sc.experimental.pp` or `sc.pp.regress_out`"
    problem = f"the values look like {kind}"
    return ScaleFault(problem, f"Read log1p of normalised counts, as before {step}", below_zero=True)


def unlike_log1p(minimum: float, maximum: float, *, all_whole: bool) -> list[Caution]:
    """Return a notice if the range of values alone shows that they are not log1p-normalised expression."""
    raw_counts = all_whole and maximum >= _MIN_RAW_COUNT
    if not raw_counts and minimum >= 0 and maximum <= MAX_LOG1P:
        return []
    found = f"Values from {minimum:,g} to {maximum:,g} {'look like raw counts' if raw_counts else 'are not log1p'}"
    trained = "the model was trained on log1p-normalised expression, so its predictions may mean nothing here"
    return [Caution(f"{found}; {trained}")]


@dataclass(eq=False)
class ScaleCheck:
    """Checks the values of `rows` of cells in batches as they are read, and all of them together at the end.

    NaN and infinity are always errors; other faults, also that which a sample showed, are notices if the options of the
    cells accept them.
    """

    cells: OpenedCells
    gene_names: Sequence[str]
    rows: NDArray[np.int64]
    fault: ScaleFault | None
    _n_cells: int = 0
    _n_empty: int = 0
    _all_whole: bool = True
    _minimum: float = 0.0
    _maximum: float = 0.0
    _maximum_at: str = ""

    def check(self, batch: Any) -> None:
        """Check the next cells, a `csr_array` [n_cells, n_genes] without stored zeros.

        Raises `ExpressionValueError` about the first value that is NaN, infinite or negative.
        """
        data = batch.data
        if data.size:
            low, high = float(data.min()), float(data.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                at = int(np.flatnonzero(~np.isfinite(data))[0])
                found = f"the value of {self._place(batch, at)} is {data[at]}"
                problem = f"{found}, expected finite log1p-normalised expression"
                raise self._refused(problem, "Remove or fill such values", acceptable=False)
            fault = self.fault if self.fault is not None and self.fault.below_zero else None
            if low < 0 and not self.cells.options["allow_unnormalized"] and (fault is None or fault.certain):
                at = int(np.flatnonzero(data < 0)[0])
                expected = ", expected log1p-normalised expression" if fault is None else f": {fault.problem}"
                problem = f"the value of {self._place(batch, at)} is negative ({data[at]:g}){expected}"
                raise self._refused(problem, "Give log1p of normalised counts" if fault is None else fault.remedy)
            self._minimum = min(self._minimum, low)
            if high > self._maximum:
                self._maximum, self._maximum_at = high, self._place(batch, int(data.argmax()))
            self._all_whole = self._all_whole and bool(np.all(data == np.rint(data)))
        self._n_cells += batch.shape[0]
        self._n_empty += int(np.count_nonzero(np.diff(batch.indptr) == 0))

    def finish(self) -> list[str]:
        """Judge all cells that were checked and return notices.

        Raises `ExpressionValueError` if every value is a whole number and the largest is 3 or more, if the largest
        value is above 20, or if the fault is certain.
        """
        notices: list[str] = []
        raw_counts = self._all_whole and self._maximum >= _MIN_RAW_COUNT
        too_large = self._maximum > MAX_LOG1P
        if not self.cells.options["allow_unnormalized"]:
            if raw_counts:
                problem = f"all values are whole numbers up to {self._maximum:,g} ({self._maximum_at}): these are raw"
                raise self._refused(f"{problem} counts", f"Normalise them: {_NORMALIZE}")
            if self.fault is not None and self.fault.certain:
                raise self._refused(self.fault.problem, self.fault.remedy)
            if too_large:
                problem = (
                    f"the largest value is {self._maximum:,g} ({self._maximum_at}), expected less than {MAX_LOG1P:g}"
                )
                raise self._refused(problem, f"Normalise and transform them: {_NORMALIZE}")
        else:
            notices += unlike_log1p(self._minimum, self._maximum, all_whole=self._all_whole)
        if self.fault is not None and not notices:
            notices.append(Caution(self.fault.problem, self.fault.remedy, self.cells.other_matrices(counts=False)))
        if self._n_empty == self._n_cells:
            notices.append(Caution("All values of the cells are zero"))
        elif self._n_empty:
            express = "expresses" if self._n_empty == 1 else "express"
            notices.append(Caution(f"{self._n_empty:,} of {self._n_cells:,} cells {express} none of the model's genes"))
        elif self._all_whole and not raw_counts:
            notices.append(Caution("All values are whole numbers; if these are counts, normalise them first"))
        return notices

    def _refused(self, problem: str, remedy: str, *, acceptable: bool = True) -> ExpressionValueError:
        options = self.cells.other_matrices(counts=False)
        if acceptable:
            options.append(UseOption("allow_unnormalized", "accept the values as they are", True))
        return ExpressionValueError(problem, remedy, options)

    def _place(self, batch: Any, at: int) -> str:
        """Return the cell and the gene of a stored value."""
        row = int(np.searchsorted(batch.indptr, at, side="right")) - 1
        cell = str(self.cells.obs.index[self.rows[self._n_cells + row]])
        return f"cell {cell!r}, gene {self.gene_names[int(batch.indices[at])]!r}"
