"""Scale of the values, from a sample of the control cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from scgenept_rt.bundle import Manifest
from scgenept_rt.compatibility.finding import Findings
from scgenept_rt.errors import compose
from scgenept_rt.expression import OpenedCells, Sampling
from scgenept_rt.expression.count_signature import ALIKE_WITHIN, LOG1P
from scgenept_rt.expression.scale import MAX_LOG1P, ScaleCheck
from scgenept_rt.genes import GeneMatch
from scgenept_rt.wording import pluralize

MAX_CELLS = 256


def check_values(
    cells: OpenedCells,
    candidates: NDArray[np.int64],
    findings: Findings,
    match: GeneMatch | None = None,
    manifest: Manifest | None = None,
) -> tuple[dict[str, Any], NDArray[np.int64], Any]:
    """Check the values of up to `MAX_CELLS` of the candidates, the same in every check.

    Returns plain values, the rows of these cells (int64 [n_cells]), and the sample (`csr_array` [n_cells, n_genes]).
    The plain values are over the model's genes (over all if none was found). `totals` are minimum, median and maximum
    over cells of the sum of expm1 over all genes (over the model's if the others cost too much to read), None if values
    are not log1p.
    """
    rows = candidates[Sampling("all", min(MAX_CELLS, len(candidates))).draw(len(candidates))]
    names, columns = cells.var.index.tolist(), np.arange(cells.var.n_rows, dtype=np.int64)
    if match is not None and match.n_found:
        names, columns = list(match.panel.names), match.columns
    sample = csr_array(vstack(list(cells.matrix.batches(rows, columns)), format="csr"))
    signature, fault = cells.judge_scale(candidates, columns, None if manifest is None else manifest.training_total)
    finite = sample.data[np.isfinite(sample.data)].astype(np.float64)
    has_zeros = sample.nnz < len(rows) * np.count_nonzero(columns >= 0) or not finite.size
    bounds = np.append(finite, 0.0) if has_zeros else finite
    low, high, totals = float(bounds.min()), float(bounds.max()), None
    if signature is not None and signature.transform in (LOG1P, None) and high <= MAX_LOG1P:
        totals = tuple(float(figure(signature.totals)) for figure in (np.min, np.median, np.max))
    check = ScaleCheck(cells, names, rows, fault)
    text = f"Values from {low:.3g} to {high:.3g} ({len(rows):,} of {pluralize(len(candidates), 'cell')} looked at)"
    with findings.problems("scale"):
        check.check(sample)
        notices = Findings()
        notices.add_notices("scale", check.finish())
        if notices:
            first = next((each for each in notices if each.remedy or each.options), notices[0])
            texts = (compose(each.text) for each in notices)
            findings.append(replace(first, text=" ".join([f"{text}.", *texts])))
        elif totals is None or signature is None or signature.transform is None:
            text += ", too few to tell whether they are log1p of normalised counts"
            findings.add("scale", text, note=True)
        else:
            is_norman = manifest is not None and manifest.dataset == "norman"
            findings.add("scale", f"{text}, log1p{_totals_in_words(*totals, is_norman=is_norman)}")
    values = {"n_cells": len(rows), "n_candidates": len(candidates), "minimum": low, "maximum": high, "totals": totals}
    return values, rows, sample


def _totals_in_words(low: float, median: float, high: float, *, is_norman: bool) -> str:
    if high - low > ALIKE_WITHIN * median:
        several = f"; expm1 sums to {low:,.0f} to {high:,.0f} per cell, not to one total"
        return f"{several}, as where genes were dropped after normalising"
    text = f", normalised to a total of {median:,.0f} per cell"
    if is_norman and abs(median - 1e4) <= ALIKE_WITHIN * 1e4:
        text += ". The Norman training data were normalised to the median total of their cells, not to 10,000"
    return text
