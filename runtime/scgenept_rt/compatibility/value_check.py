"""Scale of the values, from a sample of the control cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from scgenept_rt.bundle import Manifest
from scgenept_rt.compatibility.finding import Finding, Findings
from scgenept_rt.errors import compose
from scgenept_rt.expression import OpenedCells, Sampling
from scgenept_rt.expression.count_signature import ALIKE_WITHIN, LOG1P
from scgenept_rt.expression.scale import MAX_LOG1P, ScaleCheck
from scgenept_rt.genes import GeneMatch
from scgenept_rt.wording import pluralize

MAX_CELLS = 256


@dataclass(frozen=True)
class Values:
    """What a sample of cells looks like, over the model's genes (over all genes if none was found).

    `totals`: minimum, median and maximum over cells of the sum of expm1 over all genes (over the model's genes if the
    others cost too much to read), None if values are not log1p.
    """

    n_cells: int
    n_candidates: int
    minimum: float
    maximum: float
    totals: tuple[float, float, float] | None


def sample_rows(candidates: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of up to `MAX_CELLS` cells, the same in every check."""
    return candidates[Sampling("all", min(MAX_CELLS, len(candidates))).draw(len(candidates))]


def check_values(
    cells: OpenedCells,
    candidates: NDArray[np.int64],
    findings: Findings,
    match: GeneMatch | None = None,
    manifest: Manifest | None = None,
) -> tuple[Values, Any]:
    """Check the values of a sample of the candidates; return what it shows, and the sample as `csr_array`."""
    rows = sample_rows(candidates)
    names, columns = cells.var.index.tolist(), np.arange(cells.var.n_rows, dtype=np.int64)
    if match is not None and match.n_found:
        names, columns = list(match.panel.names), match.columns
    sample = csr_array(vstack(list(cells.matrix.batches(rows, columns)), format="csr"))
    total = None if manifest is None else manifest.training_total
    signature, fault = cells.judge_scale(candidates, columns, total)
    finite = sample.data[np.isfinite(sample.data)].astype(np.float64)
    has_zeros = sample.nnz < len(rows) * np.count_nonzero(columns >= 0) or not finite.size
    bounds = np.append(finite, 0.0) if has_zeros else finite
    totals = None
    if signature is not None and signature.transform in (LOG1P, None) and bounds.max() <= MAX_LOG1P:
        found = signature.totals
        totals = (float(found.min()), float(np.median(found)), float(found.max()))
    values = Values(len(rows), len(candidates), float(bounds.min()), float(bounds.max()), totals)
    check = ScaleCheck(cells, names, rows, fault)
    with findings.problems("scale"):
        check.check(sample)
        known = values if signature is not None and signature.transform is not None else replace(values, totals=None)
        findings.append(_finding(known, check.finish(), manifest))
    return values, sample


def _finding(values: Values, notices: list[str], manifest: Manifest | None) -> Finding:
    looked_at = f"{values.n_cells:,} of {pluralize(values.n_candidates, 'cell')} looked at"
    text = f"Values from {values.minimum:.3g} to {values.maximum:.3g} ({looked_at})"
    if notices:
        found = [Finding.from_notice("scale", notice) for notice in notices]
        first = next((each for each in found if each.remedy or each.options), found[0])
        return replace(first, text=" ".join([f"{text}.", *(compose(each.text) for each in found)]))
    if values.totals is None:
        return Finding("scale", "note", f"{text}, too few to tell whether they are log1p of normalised counts")
    low, median, high = values.totals
    if high - low > ALIKE_WITHIN * median:
        text += f", log1p; expm1 sums to {low:,.0f} to {high:,.0f} per cell, not to one total, as where genes were "
        return Finding("scale", "ok", f"{text}dropped after normalising")
    text += f", log1p, normalised to a total of {median:,.0f} per cell"
    if manifest and manifest.dataset == "norman" and abs(median - 1e4) <= ALIKE_WITHIN * 1e4:
        text += ". The Norman training data were normalised to the median total of their cells, not to 10,000"
    return Finding("scale", "ok", text)
