"""Find the transform that values went through, from the traces that counts leave in them.

Undone, the values of a cell are whole multiples of one value, that of a single count; and where cells were normalised
and no gene has been dropped, they sum to the same total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_CELLS = 32
ALIKE_WITHIN = 0.01
"""Relative spread of totals that count as one total."""

_MAX_VALUES = 300
_MAX_SMALLEST_COUNT = 24
_MIN_REPEATED = 8
_MAX_ERROR = 0.02
"""Rounding error, in counts, up to which a value shows whether it is a whole multiple."""
_MIN_SHARE = 0.6
_MIN_EVIDENCE, _MIN_UNUSUAL_EVIDENCE = 7.0, 12.0
"""Log odds for counts against any positive numbers, from which values are taken to be counts after log1p, or after
another transform."""
_MAX_TOTAL = 1e8
_MIN_CELLS, _STEEPEST = 8, -1.5
"""Cells from which the slope of log depth over log unit tells, and the slope that normalised cells do not reach."""
_MIN_ALIKE = 3
_MOST = 0.8
"""Share of cells that decides for all."""
_MAX_FRACTIONS = 1.05
_MIN_OTHER = 0.2
"""Share of cells on another scale from which a notice mentions them."""


@dataclass(frozen=True)
class Transform:
    """A transform of counts."""

    name: str
    undo: Callable[[NDArray[np.float64]], NDArray[np.float64]]  # returns the values before it
    linear: str  # these values, in Python
    log1p: str  # and their log1p


def logarithm(base: float) -> Transform:
    """Return the transform log(1 + x) to another base than e."""
    expression = f"adata.X * np.log({base:g})"
    return Transform(f"log{base:g}(1 + x)", lambda x: np.expm1(x * log(base)), f"np.expm1({expression})", expression)


LOG1P = Transform("log1p", np.expm1, "np.expm1(adata.X)", "adata.X")
LINEAR = Transform("no logarithm", lambda x: x, "adata.X", "np.log1p(adata.X)")
_SQUARE = "scipy.sparse.csr_matrix(adata.X).power(2)"
TRANSFORMS = (
    LOG1P,
    LINEAR,  # before square roots: squares of whole multiples are whole multiples
    logarithm(2),
    logarithm(10),
    Transform("log1p twice", lambda x: np.expm1(np.expm1(x)), "np.expm1(np.expm1(adata.X))", "np.expm1(adata.X)"),
    Transform("square roots", np.square, _SQUARE, f"np.log1p({_SQUARE})"),
    Transform("arcsinh", np.sinh, "np.sinh(adata.X)", "np.log1p(np.sinh(adata.X))"),
)


@dataclass(frozen=True)
class Signature:
    """What a sample of cells shows."""

    transform: Transform | None  # what the values went through; None if they do not show it
    n_judged: int  # cells with enough values to tell
    n_alike: int  # those that have this transform; 0 if only totals show it
    # Of each of the latter, the value of one count after undoing the transform, the sum of its counts, and the
    # geometric mean of 1 + count over all genes:
    units: NDArray[np.float64]
    depths: NDArray[np.float64]
    geometric_means: NDArray[np.float64]
    totals: NDArray[np.float64]  # the sum of each cell with expression, after undoing the transform (or log1p)
    other: tuple[Transform, int] | None = None  # what a few cells went through in the place of log1p

    @property
    def total(self) -> float | None:
        """The total of every cell, 1 for fractions; None if totals differ, or there are too few cells to tell."""
        if self.totals.max() <= _MAX_FRACTIONS:
            return 1.0
        return float(np.median(self.totals)) if _alike(self.totals) else None

    @property
    def unit(self) -> float:
        """The value of one count in the median cell; 0 if only totals are alike."""
        return float(np.median(self.units)) if self.units.size else 0.0

    @property
    def separate_totals(self) -> tuple[float, ...]:
        """The two or three totals that several cells each were normalised to; empty for one total, or more."""
        totals = np.sort(self.totals)
        groups = np.split(totals, np.flatnonzero(np.diff(totals) > ALIKE_WITHIN * totals[1:]) + 1)
        some = 2 <= len(groups) <= 3 and all(len(group) >= _MIN_ALIKE for group in groups)
        return tuple(float(np.median(group)) for group in groups) if some else ()

    @property
    def unnormalised(self) -> bool:
        """Whether a count is 1 in every cell, whatever the total of the cell."""
        alike = len(self.totals) < 2 or np.ptp(self.totals) <= ALIKE_WITHIN * np.median(self.totals)
        ones = np.abs(self.units - 1) < 1e-3  # a cell of few counts may have none of 1
        return bool(self.units.size and np.mean(ones) >= _MOST and not alike)

    @property
    def differs_with_depth(self) -> bool:
        """Whether counts were divided by something that grows more slowly than the total of their cell."""
        if len(self.units) < _MIN_CELLS:
            return False
        units, depths = (np.log(values) - np.log(values).mean() for values in (self.units, self.depths))
        spread = float(units @ units)
        if spread < 1e-4:
            return False
        slope = float(depths @ units) / spread  # -1 where units are a constant divided by the total
        error = float(np.linalg.norm(depths - slope * units)) / np.sqrt(spread * (len(units) - 2))
        return bool(slope + 4 * error < _STEEPEST)

    @property
    def centred_log_ratio(self) -> bool:
        """Whether counts were divided by the geometric mean of 1 + count of their cell."""
        errors = np.abs(self.units * self.geometric_means - 1)
        return bool(self.units.size > 1 and np.median(errors) < 2e-3 and not self.unnormalised)


def read_signature(sample: Any, transforms: tuple[Transform, ...] = TRANSFORMS) -> Signature:
    """Find which transform the cells of a sample went through.

    The sample is a `csr_array` [n_cells, n_genes], not negative, of as many genes as there are: totals need them all.
    """
    cells = np.split(sample.data.astype(np.float64), sample.indptr[1:-1])
    cells = [values[np.isfinite(values)] for values in cells]
    cells = [values for values in cells if values.size]
    rounding = _rounding(np.concatenate(cells)) if cells else (0.0, 0.0)
    votes: list[tuple[Transform | None, float, NDArray[np.float64]]] = []
    for at in np.unique(np.linspace(0, len(cells) - 1, min(len(cells), MAX_CELLS)).astype(int)):
        vote = _judge(cells[at], rounding, transforms)
        votes += [(*vote, cells[at])] if vote is not None else []
    counted = Counter(transform for transform, _, _ in votes)
    others = [entry for entry in counted.most_common() if entry[0] is not LOG1P]
    chosen: Transform | None = LOG1P if counted[LOG1P] else None
    if others and others[0][1] >= _MIN_OTHER * len(votes):
        chosen = others[0][0]
    few = next(((entry, n) for entry, n in others if entry is not None and n > 1), None) if chosen is LOG1P else None
    shown = [
        (unit, counts.sum(), np.exp(np.log1p(counts).sum() / sample.shape[1]))
        for transform, unit, values in votes
        if transform is not None and transform is chosen
        for counts in [transform.undo(values) / unit]
    ]
    if chosen is None:
        by_total = (entry for entry in transforms if _alike(_totals(cells, entry), 1 if entry is LOG1P else 0.1))
        chosen = next(by_total, None)
    units, depths, means = np.array(shown).reshape(-1, 3).T
    return Signature(chosen, len(votes), len(shown), units, depths, means, _totals(cells, chosen or LOG1P), few)


def divided_by_gene(sample: Any) -> bool:
    """Return whether the values of a gene, and not those of a cell, are log1p of multiples of one value."""
    from scipy.sparse import csc_array, csr_array

    genes = csc_array(sample)
    n_expressed = np.diff(genes.indptr)
    # A gene that some cells lack has small counts in others, and these show the unit.
    chosen = np.argsort(-np.where(n_expressed < sample.shape[0], n_expressed, 0), kind="stable")[:MAX_CELLS]
    signature = read_signature(csr_array(genes[:, chosen].T), (LOG1P,))
    return signature.transform is LOG1P and signature.n_alike > 0.5 * signature.n_judged


def _totals(cells: list[NDArray[np.float64]], transform: Transform) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.array([transform.undo(values).sum() for values in cells])


def _alike(totals: NDArray[np.float64], strictness: float = 1.0) -> bool:
    if len(totals) < 3 or not np.all(np.isfinite(totals)):
        return False
    low, high = np.quantile(totals, [0.05, 0.95])
    return bool(high - low <= strictness * ALIKE_WITHIN * np.median(totals))


def _rounding(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the relative and the absolute error that values were stored with."""
    if np.all(values == np.rint(values)):
        return 0.0, 0.0
    with np.errstate(over="ignore"):
        relative = 2.0**-11 if np.all(values == values.astype(np.float16)) else 2.0**-22
    for digits in (1, 2, 3, 4, 5):
        scaled = values * 10.0**digits
        if np.all(np.abs(scaled - np.rint(scaled)) <= 1e-6 * scaled):
            return relative, 0.5 * 10.0**-digits
    return relative, 0.0


def _judge(
    values: NDArray[np.float64], rounding: tuple[float, float], transforms: tuple[Transform, ...]
) -> tuple[Transform | None, float] | None:
    """Return the transform of a cell's values (None: of none) and its unit; None if they are too few to tell."""
    distinct, repeats = np.unique(values, return_counts=True)
    repeated = repeats > 1
    if np.count_nonzero(repeated) >= _MIN_REPEATED and repeats[repeated].sum() >= _MIN_SHARE * values.size:
        distinct = distinct[repeated]  # leaves out the few that were estimated, as of reads that fit several genes
    distinct = distinct[np.linspace(0, len(distinct) - 1, min(len(distinct), _MAX_VALUES)).astype(int)]
    best: tuple[float, Transform | None, float] = (0.0, None, 0.0)
    telling = False
    for transform in transforms:
        share, unit, could_tell = _whole_multiples(distinct, rounding, transform)
        telling = telling or (could_tell and transform is LOG1P)
        # What is nearly linear looks like both: the first is taken unless another is clearly better.
        if share > best[0] + (0.05 if best[0] else 0.0):
            best = share, transform, unit
        if transform is LOG1P and share > 0.98:
            break
    return best[1:] if telling or best[0] else None


def _whole_multiples(
    values: NDArray[np.float64], rounding: tuple[float, float], transform: Transform
) -> tuple[float, float, bool]:
    """Return the share of values that are whole multiples of one unit, that unit, and whether they could tell.

    `values` are distinct and sorted; the first is that of a small count, in most cells of 1. The share is 0 unless it
    is evidence of counts.
    """
    relative, absolute = rounding
    with np.errstate(over="ignore", invalid="ignore"):
        undone = transform.undo(values)
        errors = transform.undo(values * (1 + relative) + absolute) - undone
        if not undone.sum() < _MAX_TOTAL:
            return 0.0, 0.0, False
    ratios = undone[1:] / undone[0]
    errors = (errors[1:] + ratios * errors[0]) / undone[0]
    minimum = _MIN_EVIDENCE if transform is LOG1P else _MIN_UNUSUAL_EVIDENCE
    could_tell = False
    for count in range(1, _MAX_SMALLEST_COUNT + 1):
        exact = errors * count < _MAX_ERROR
        multiples, within = ratios[exact] * count, 0.005 + 2 * count * errors[exact]
        evidence, needed = -np.log(2 * within), minimum + 2 * log(count)
        if evidence.sum() < needed:
            break
        could_tell = True
        whole = np.abs(multiples - np.rint(multiples)) < within
        if whole.mean() >= _MIN_SHARE and evidence[whole].sum() - 2.3 * np.count_nonzero(~whole) > needed:
            return float(whole.mean()), float(undone[0]) / count, True
    return 0.0, 0.0, could_tell
