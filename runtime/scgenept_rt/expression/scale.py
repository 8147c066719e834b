"""Whether values are log1p-normalised expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scgenept_rt.errors import Caution, ExpressionValueError, UseOption
from scgenept_rt.expression.count_signature import (
    LINEAR,
    LOG1P,
    Signature,
    Transform,
    divided_by_gene,
    logarithm,
)
from scgenept_rt.wording import pluralize

# log1p of a count stays below 20 up to 485 million counts of one gene in a cell.
MAX_LOG1P = 20.0
# Whole numbers up to 2 may be a small or binary sample; counts of real cells go further.
MIN_RAW_COUNT = 3.0
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


@dataclass(frozen=True)
class ScaleFault:
    """What is wrong with a scale, or may be.

    `certain` if the values themselves show it, `below_zero` if it comes with negative values.
    """

    problem: str
    remedy: str
    certain: bool
    below_zero: bool = False


_NO_TRACE = ScaleFault(
    "Values show no trace of counts: undone, those of a cell are not whole multiples of one value, as log1p of "
    "normalised counts is. The model was not trained on smoothed, imputed or corrected values, or on counts that are "
    "not log1p, so its predictions may be off",
    "Give the log1p of normalised counts, if there are any",
    certain=False,
)


def find_fault(
    signature: Signature, sample: Any, base: float | None, training_total: float | None = None
) -> ScaleFault | None:
    """Judge what a sample of cells went through; None for log1p of normalised counts, or where values do not show it.

    Parameters
    ----------
    signature, sample
        `csr_array` [n_cells, n_genes], not negative, and its signature.
    base
        The base of the logarithm that the file states, None for e.
    training_total
        Total per cell of the training data; None if it is not known.
    """
    expected = training_total or _USUAL_TOTAL
    found, data = signature.transform, sample.data[np.isfinite(sample.data)]
    if found is LOG1P:
        fault = _fault_of_log1p(signature, sample.shape[1], training_total)
        estimated = signature.n_judged > 0 == signature.n_alike and data.size > _MIN_DENOISED * np.prod(sample.shape)
        return _NO_TRACE if fault is None and estimated else fault
    if found is not None:
        cells = (
            f"{signature.n_alike:,} of {pluralize(signature.n_judged, 'cell')}" if signature.n_alike else "the cells"
        )
        if found is LINEAR:
            logged = not signature.n_alike and signature.totals.max() > 1.05 and data.max() <= MAX_LOG1P
            kind = "normalised to one total, before a logarithm or after it" if logged else _linear_kind(signature)
            step = _FROM_COUNTS if logged else _step(signature, expected)
            return ScaleFault(f"the values of {cells} are {kind}", step, certain=True)
        undone = "whole multiples of one value per cell, as counts are" if signature.n_alike else "equal totals"
        problem = f"the values of {cells} are {found.name} and not log1p: undone, they are {undone}"
        return ScaleFault(problem, _step(signature, expected), certain=True)
    if data.size and data.max() >= MIN_RAW_COUNT and np.mean(data == np.rint(data)) >= _MIN_WHOLE:
        problem = "many values are whole numbers and the others are not, as counts that were corrected or estimated"
        return ScaleFault(problem, f"Normalise them: {_NORMALIZE}", certain=True)
    if base is not None:
        remedy = f"Convert them: `adata.X = {logarithm(base).log1p}; adata.uns['log1p']['base'] = None`"
        return ScaleFault(
            f"uns['log1p'] says that values are {logarithm(base).name} and not log1p", remedy, certain=True
        )
    if not signature.n_judged:
        return None
    if divided_by_gene(sample):
        problem = (
            "the values of each gene were divided by a number of its own, as centred log-ratios (CLR) of genes are"
        )
        return ScaleFault(problem, _FROM_COUNTS, certain=True)
    return _NO_TRACE


def _fault_of_log1p(signature: Signature, n_genes: int, training_total: float | None) -> ScaleFault | None:
    expected = training_total or _USUAL_TOTAL
    step = _step(signature, expected)
    if signature.other is not None:
        other, n = signature.other
        problem = (
            f"{n:,} of {pluralize(signature.n_judged, 'cell')} that were looked at are on another scale ({other.name})"
        )
        return ScaleFault(f"{problem} than the others (log1p)", "Bring all cells to one scale", certain=False)
    if signature.unnormalised:
        problem = "Values are log1p of whole counts that were not normalised: they differ with the depth of a cell"
        return ScaleFault(problem, step, certain=False)
    if signature.centred_log_ratio:
        problem = "the values are centred log-ratios (CLR) of each cell's counts, which were not divided by their total"
        return ScaleFault(problem, step, certain=True)
    total, unit = signature.total, _unit(signature)
    least = float(np.median(signature.totals))
    if signature.totals.max() <= 1.05 and len(signature.totals) > 1:
        return ScaleFault("the values are log1p of fractions of a cell's total", step, certain=True)
    ratio, far = (total or least) / expected, _FAR_FROM_STATED if training_total else _FAR
    all_genes = n_genes >= _ALL_GENES or 0 < unit < expected / _DEEPEST
    if ratio > far or (total is not None and all_genes and ratio < 1 / far):
        problem = f"Cells were normalised to a total of {'' if total else 'more than '}{least:,.0f}"
        trained = f"training data have {'' if training_total else 'about '}{expected:,.0f}"
        step = f"Convert them: `{_rescaled(LOG1P, total, expected)}`" if total else _FROM_COUNTS
        certain = not 1 / _OUTSIDE < ratio < _OUTSIDE
        return ScaleFault(f"{problem}, but {trained}", step, certain=certain)
    several = signature.separate_totals
    if several and several[-1] > far * several[0]:
        problem = f"Cells were normalised to different totals ({', '.join(f'{entry:,.0f}' for entry in several)})"
        step = f"sc.pp.normalize_total(adata, target_sum={expected:g}); sc.pp.log1p(adata)"
        return ScaleFault(problem, f"Normalise all to one: `adata.X = np.expm1(adata.X); {step}`", certain=False)
    if total is None and signature.differs_with_depth:
        problem = "Values are log1p of counts that were not divided by the total of their cell, as centred log-ratios"
        return ScaleFault(f"{problem} (CLR): they differ with the depth of a cell", step, certain=False)
    dropped = total is None and least <= _PERCENT and 0 < unit < expected / _DEEPEST
    if dropped or (total is not None and np.isclose(total, _PERCENT, rtol=1e-5)):
        problem = (
            f"Undone, values sum to {least:,.3g} per cell, as percent do{' of which genes were dropped' * dropped}"
        )
        return ScaleFault(problem, f"If they are percent: `{_rescaled(LOG1P, _PERCENT, expected)}`", certain=False)
    return None


def _linear_kind(signature: Signature) -> str:
    if signature.unnormalised:
        return "counts, some of them corrected or estimated"
    if signature.totals.max() <= 1.05:
        return "fractions of a cell's total, and no logarithm was taken"
    return "normalised, but no logarithm was taken"


def _step(signature: Signature, expected: float) -> str:
    """Return the line of Python that turns the values into log1p of normalised counts."""
    transform = signature.transform
    assert transform is not None
    if signature.unnormalised or signature.centred_log_ratio or signature.differs_with_depth:
        assign = "" if transform is LINEAR else f"adata.X = {transform.linear}; "
        return f"Normalise them: `{assign}sc.pp.normalize_total(adata); sc.pp.log1p(adata)`"
    total = 1.0 if signature.totals.max() <= 1.05 else signature.total
    few_genes = expected / _DEEPEST < _unit(signature)
    if total is not None and (total > _FAR * expected or (total < expected / _FAR and not few_genes)):
        return f"Convert them: `{_rescaled(transform, total, expected)}`"
    return f"Convert them: `adata.X = {transform.log1p}`"


def _rescaled(transform: Transform, total: float, expected: float) -> str:
    return f"adata.X = np.log1p({transform.linear} * {expected / total:.4g})"


def _unit(signature: Signature) -> float:
    return float(np.median(signature.units)) if signature.units.size else 0.0


class ScaleCheck:
    """Checks cells in batches as they are read.

    Parameters
    ----------
    gene_names
        The gene of each column.
    cell_name
        Returns the name of a cell by its position among those checked.
    allow_unnormalized
        Report negative, raw and not log-transformed values as notices. NaN and infinity are always errors.
    other_matrices
        Options that read other matrices of the input.
    fault
        What a sample of the cells showed; a notice or an error at the end.
    """

    def __init__(
        self,
        where: str,
        gene_names: Sequence[str],
        cell_name: Callable[[int], str],
        *,
        allow_unnormalized: bool,
        other_matrices: Sequence[UseOption] = (),
        fault: ScaleFault | None = None,
    ) -> None:
        self._fault = fault
        self._where = where
        self._gene_names = gene_names
        self._cell_name = cell_name
        self._allow_unnormalized = allow_unnormalized
        self._other_matrices = tuple(other_matrices)
        self._n_cells = 0
        self._n_empty = 0
        self._all_whole = True
        self._maximum = 0.0
        self._maximum_at = ""
        self._minimum = 0.0

    def check(self, batch: Any) -> None:
        """Check the next cells, a `csr_array` [n_cells, n_genes] without stored zeros.

        Raises
        ------
        ExpressionValueError
            If a value is NaN, infinite or negative; the first in the order of cells is named.
        """
        data = batch.data
        if data.size:
            low, high = float(data.min()), float(data.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                at = int(np.flatnonzero(~np.isfinite(data))[0])
                raise ExpressionValueError(
                    f"the value of {self._place(batch, at)} is {data[at]}, expected finite log1p-normalised expression",
                    "Remove or fill such values",
                    self._other_matrices,
                    where=self._where,
                )
            fault = self._fault if self._fault is not None and self._fault.below_zero else None
            if low < 0 and not self._allow_unnormalized and (fault is None or fault.certain):
                at = int(np.flatnonzero(data < 0)[0])
                value = f"the value of {self._place(batch, at)} is negative ({data[at]:g})"
                if fault is None:
                    raise self._not_normalized(f"{value}, expected log1p-normalised expression")
                raise self._not_normalized(f"{value}: {fault.problem}", fault.remedy)
            self._minimum = min(self._minimum, low)
            if high > self._maximum:
                self._maximum, self._maximum_at = high, self._place(batch, int(data.argmax()))
            self._all_whole = self._all_whole and bool(np.all(data == np.rint(data)))
        self._n_cells += batch.shape[0]
        self._n_empty += int(np.count_nonzero(np.diff(batch.indptr) == 0))

    def finish(self) -> list[str]:
        """Judge all cells that were checked and return notices.

        Raises
        ------
        ExpressionValueError
            If every value is a whole number and the largest is 3 or more, if the largest value is above 20, or if the
            fault is certain.
        """
        notices: list[str] = []
        raw_counts = self._all_whole and self._maximum >= MIN_RAW_COUNT
        too_large = self._maximum > MAX_LOG1P
        if not self._allow_unnormalized:
            if raw_counts:
                raise self._not_normalized(
                    f"all values are whole numbers up to {self._maximum:,g} ({self._maximum_at}): these are raw counts",
                    f"Normalise them: {_NORMALIZE}",
                )
            if self._fault is not None and self._fault.certain:
                raise self._not_normalized(self._fault.problem, self._fault.remedy)
            if too_large:
                raise self._not_normalized(
                    f"the largest value is {self._maximum:,g} ({self._maximum_at}), expected less than {MAX_LOG1P:g}",
                    f"Normalise and transform them: {_NORMALIZE}",
                )
        elif raw_counts or too_large or self._minimum < 0:
            kind = "raw counts" if raw_counts else "not log1p"
            problem = (
                f"Values from {self._minimum:,g} to {self._maximum:,g} look like {kind}; the model was trained on "
                "log1p-normalised expression, so its predictions may mean nothing here."
            )
            notices.append(Caution(problem))
        reported = raw_counts or too_large or (self._minimum < 0 and self._allow_unnormalized)
        if self._fault is not None and not reported:
            notices.append(Caution(self._fault.problem, self._fault.remedy, self._other_matrices))
        if self._n_empty == self._n_cells:
            notices.append(Caution("All values of the cells are zero"))
        elif self._n_empty:
            express = "expresses" if self._n_empty == 1 else "express"
            notices.append(Caution(f"{self._n_empty:,} of {self._n_cells:,} cells {express} none of the model's genes"))
        elif self._all_whole and not raw_counts:
            notices.append(Caution("All values are whole numbers; if these are counts, normalise them first"))
        return notices

    def _not_normalized(self, problem: str, remedy: str = "") -> ExpressionValueError:
        accept = UseOption("allow_unnormalized", "accept the values as they are", True)
        return ExpressionValueError(problem, remedy, [*self._other_matrices, accept], where=self._where)

    def _place(self, batch: Any, at: int) -> str:
        """Return the cell and the gene of a stored value."""
        row = int(np.searchsorted(batch.indptr, at, side="right")) - 1
        return f"cell {self._cell_name(self._n_cells + row)!r}, gene {self._gene_names[int(batch.indices[at])]!r}"
