"""Scale and sparsity of a file's values, from a sample of its control cells."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.compatibility.findings import Finding, problem_from
from scgenept_rt.errors import ExpressionValueError, pluralize
from scgenept_rt.expression import ReadOptions, Sampling
from scgenept_rt.expression.cells_source import CellsSource
from scgenept_rt.expression.matrix_rows import CompressedColumns
from scgenept_rt.expression.scale import ScaleCheck
from scgenept_rt.genes import GeneMatch, GenePanel

MAX_CELLS = 256
_SEED = 0
# Float32 log1p values give back a count to about 1e-6 of it, so larger ones say nothing about being whole.
_WHOLE_UP_TO, _WHOLE_WITHIN = 1e4, 1e-3
_CONSTANT_WITHIN = 0.01
# Shares of non-zero genes in a cell: of all model genes, and of those in the file. Files of variable genes alone are
# less sparse, so only values that are hardly ever zero are taken for scaled or imputed ones.
_SPARSE_BELOW, _DENSE_ABOVE = 0.02, 0.7
_NORMAN = "norman"


@dataclass(frozen=True)
class Spread:
    """Median and range over cells."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Spread:
        """Summarise one value a cell."""
        return cls(float(np.median(values)), float(values.min()), float(values.max()))

    @property
    def constant(self) -> bool:
        """Whether all cells have one value, within 1%."""
        return self.maximum - self.minimum <= _CONSTANT_WITHIN * abs(self.median)


@dataclass(frozen=True, eq=False)
class Values:
    """What a sample of cells looks like.

    Attributes
    ----------
    n_cells, n_candidates
        How many cells were looked at, and of how many.
    minimum, maximum
        Of all values of the model's genes, zeros included; of finite ones.
    n_non_finite, n_negative
        How many values are NaN or infinite, and how many negative.
    whole, log1p_of_whole
        Whether all values are whole numbers (raw counts), or the log1p of whole numbers (counts not normalised).
    total, total_of_file
        Sum of expm1 a cell, over the model's genes, and over all genes of the file (None if that costs too much).
    n_expressed
        Non-zero model genes a cell.
    sample
        The cells as `csr_array` [n_cells, n_genes] in model gene order.

    Where the genes could not be matched, range and kind of values are those of all genes of the file, and what is
    about the model's genes (`total`, `n_expressed`, `sample`) is None.
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
    n_expressed: Spread | None
    sample: Any = field(repr=False)
    findings: tuple[Finding, ...] = field(default=(), repr=False)


def examine_values(
    cells: CellsSource,
    panel: GenePanel,
    match: GeneMatch | None,
    control_rows: NDArray[np.int64] | None,
    options: ReadOptions,
    dataset: str,
) -> Values:
    """Look at up to `MAX_CELLS` of the control cells (of all cells if these are not known), drawn with a fixed seed."""
    rows = np.arange(cells.obs.n_rows, dtype=np.int64) if control_rows is None else control_rows
    n_candidates = len(rows)
    if n_candidates > MAX_CELLS:
        rows = rows[Sampling("all", MAX_CELLS, _SEED).draw(n_candidates)]
    whole_file = np.arange(cells.var.n_rows, dtype=np.int64)
    matched = match is not None and match.n_found > 0
    if match is None or not matched:
        names, columns = tuple(cells.var.index().tolist()), whole_file
    else:
        names, columns = panel.names, match.columns
    obs_names = cells.obs.index()[rows]
    check = ScaleCheck(
        cells.where, names, lambda cell: str(obs_names[cell]), allow_unnormalized=options.allow_unnormalized
    )
    if isinstance(cells.matrix, CompressedColumns):  # the columns of other genes would have to be read whole
        file_sample, sample = None, _stacked(cells.matrix.pieces(rows, columns))
    else:
        file_sample = _stacked(cells.matrix.pieces(rows, whole_file))
        sample = _selected(file_sample, columns)
    findings: list[Finding] = []
    try:
        check.check(sample)
        notices = check.finish()
    except ExpressionValueError as error:
        findings.append(problem_from("scale", error))
        notices = []
    found = int(np.count_nonzero(columns >= 0))
    values = _measured(sample, file_sample, n_candidates, found)
    if not matched:
        # `sample` holds the genes of the file: nothing of the model's can be said of it.
        values = replace(values, total=None, total_of_file=_totals(sample), n_expressed=None, sample=None)
    if findings:
        findings = [replace(finding, text=f"{finding.text} {_range(values)}") for finding in findings]
    else:
        findings.append(_scale(values, notices, dataset, len(whole_file)))
    if values.n_expressed is not None and not values.n_non_finite:
        findings.append(_sparsity(values, values.n_expressed, found, dataset))
    return replace(values, findings=tuple(findings))


def _stacked(pieces: Any) -> Any:
    from scipy.sparse import csr_array, vstack

    return csr_array(vstack(list(pieces), format="csr"))


def _selected(whole: Any, columns: NDArray[np.int64]) -> Any:
    """Return the file's columns in the order of the model, where -1 stands for an empty one."""
    from scipy.sparse import csr_array

    genes = np.flatnonzero(columns >= 0)
    taken = csr_array(whole[:, columns[genes]])
    selected = csr_array((taken.data, genes[taken.indices], taken.indptr), shape=(whole.shape[0], len(columns)))
    selected.sort_indices()
    return selected


def _measured(sample: Any, file_sample: Any, n_candidates: int, n_found: int) -> Values:
    data = sample.data
    finite = data[np.isfinite(data)]
    has_zeros = sample.nnz < sample.shape[0] * n_found or not finite.size
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    counts = np.expm1(finite[finite < np.log1p(_WHOLE_UP_TO)].astype(np.float64))
    log1p_of_whole = bool(counts.size) and bool(np.all(np.abs(counts - np.rint(counts)) < _WHOLE_WITHIN))
    whole = bool(np.all(finite == np.rint(finite)))
    return Values(
        n_cells=sample.shape[0],
        n_candidates=n_candidates,
        minimum=min(low, 0.0) if has_zeros else low,
        maximum=max(high, 0.0) if has_zeros else high,
        n_non_finite=int(data.size - finite.size),
        n_negative=int(np.count_nonzero(finite < 0)),
        whole=whole,
        log1p_of_whole=log1p_of_whole and not whole,
        total=_totals(sample),
        total_of_file=None if file_sample is None else _totals(file_sample),
        n_expressed=Spread.of(np.diff(sample.indptr)),
        sample=sample,
    )


def _totals(sample: Any) -> Spread | None:
    """Return the sums of expm1 over cells; None for values that are no log1p."""
    data = sample.data.astype(np.float64)
    if not np.all(np.isfinite(data)) or (data.size and not 0 <= data.min() <= data.max() <= 20):
        return None
    row_of_value = np.repeat(np.arange(sample.shape[0]), np.diff(sample.indptr))
    return Spread.of(np.bincount(row_of_value, weights=np.expm1(data), minlength=sample.shape[0]))


def _range(values: Values) -> str:
    every = values.n_cells == values.n_candidates
    cells = (
        f"all {pluralize(values.n_cells, 'cell')}" if every else f"{values.n_cells:,} of {values.n_candidates:,} cells"
    )
    return f"Values lie from {values.minimum:.3g} to {values.maximum:.3g} ({cells} looked at)."


def _scale(values: Values, notices: list[str], dataset: str, n_file_genes: int) -> Finding:
    text = _range(values)
    overall = values.total or values.total_of_file
    if overall is None or overall.maximum == 0:
        return Finding(
            "scale", "note", " ".join([text, *notices]), "Check that this is the right matrix: --layer NAME."
        )
    file_total = values.total_of_file
    if values.total is None or values.sample is None:
        n_genes = n_file_genes
        totals = f"over the file's {n_genes:,} genes expm1 sums to {_spread(overall)} a cell"
    else:
        n_genes = values.sample.shape[1]
        totals = f"over the model's genes expm1 sums to {_spread(values.total)} a cell"
    if values.log1p_of_whole:
        return Finding(
            "scale",
            "note",
            f"{text} They are log1p of whole counts that were not normalised; {totals}.",
            "Before log1p run `sc.pp.normalize_total(adata)`, on all genes.",
        )
    if notices:
        return Finding("scale", "note", " ".join([text, *notices]))
    if file_total is None:
        return Finding("scale", "ok", f"{text} They look like log1p; {totals}.")
    if not file_total.constant:
        of_file = f"over the file's {n_file_genes:,} genes to {_spread(file_total)}" if n_file_genes != n_genes else ""
        totals = "; ".join([totals, of_file] if of_file else [totals])
        return Finding(
            "scale",
            "ok",
            f"{text} They look like log1p; {totals}. That is not one total for all cells, as where genes were dropped "
            "after normalising.",
        )
    text = f"{text} log1p, normalised to a total of {file_total.median:,.0f} a cell"
    text += f"; {totals}." if values.total is not None else "."
    if dataset == _NORMAN and abs(file_total.median - 1e4) <= 1e4 * _CONSTANT_WITHIN:
        return Finding(
            "scale",
            "note",
            f"{text} The Norman training data were normalised to the median total of their cells, not to 10,000.",
            "Nearer to these: `sc.pp.normalize_total(adata)` without target_sum, then `sc.pp.log1p(adata)`.",
        )
    return Finding("scale", "ok", text)


def _spread(spread: Spread) -> str:
    if spread.constant:
        return f"{spread.median:,.0f}"
    return f"{spread.median:,.0f} ({spread.minimum:,.0f} to {spread.maximum:,.0f})"


def _sparsity(values: Values, expressed: Spread, n_found: int, dataset: str) -> Finding:
    n_genes = values.sample.shape[1]
    one = expressed.minimum == expressed.maximum == 1
    text = f"A cell has {_spread(expressed)} non-zero gene{'' if one else 's'} of the model's"
    text += f" {n_genes:,} ({expressed.median / n_genes:.0%})"
    text += f", {expressed.median / n_found:.0%} of the {n_found:,} in the file." if n_found < n_genes else "."
    if dataset == _NORMAN:
        text += " In the Norman training data it has about 409 (8%)."
    if expressed.maximum == 0:
        return Finding("sparsity", "note", text, "Check that this is the right matrix: --layer NAME.")
    if expressed.median > _DENSE_ABOVE * n_found:
        step = "If values were scaled, imputed or smoothed, read the log-normalised ones: --layer NAME or --use-raw."
        return Finding("sparsity", "note", text, step)
    if expressed.median < _SPARSE_BELOW * n_genes:
        step = "The network sees a nearly empty cell: give the file before genes or counts were filtered."
        return Finding("sparsity", "note", text, step)
    return Finding("sparsity", "ok", text)
