"""What made values negative: no count has such a logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np

from scgenept_rt.expression.count_signature import MAX_CELLS
from scgenept_rt.expression.scale import ScaleFault

_MIN_CELLS, _MIN_GENES = 8, 20
_CENTRED = 1e-3
"""Mean of a cell, in standard deviations, up to which its values sum to 0."""
_BELOW, _MIN_BELOW, _MIN_MEAN = -0.05, 0.2, 0.2
"""Mean of a gene, in standard deviations, from which it is below 0, the share of such genes in centred values, and the
mean of all values that centred ones do not reach."""
_MIN_REPEATED = 0.2
_MIN_NEGATIVE = 0.01


def find_negative_fault(sample: Any) -> ScaleFault | None:
    """Name the step that made values negative; None if there are too few cells or genes to tell.

    Parameters
    ----------
    sample
        `csr_array` [n_cells, n_genes] with finite values.
    """
    values = sample[:MAX_CELLS].toarray().astype(np.float64)
    if values.shape[0] < _MIN_CELLS or values.shape[1] < _MIN_GENES:
        return None
    spread = values.std()
    if np.abs(values.mean(axis=1)).max() < _CENTRED * spread:
        return _fault("centred log-ratios (CLR), which sum to 0 in each cell", "that step")
    if np.mean(values.mean(axis=0) < _BELOW * spread) < _MIN_BELOW and values.mean() > _MIN_MEAN * spread:
        # A correction leaves few zeros, and falls below 0 in more than single values.
        if np.count_nonzero(values) < values.size / 2 or np.mean(values < 0) < _MIN_NEGATIVE:
            return None
        problem = "Some values are negative, as in log expression that was corrected for batches or covariates"
        return ScaleFault(problem, "Set these to 0: `adata.X = adata.X.clip(0)`", certain=False, below_zero=True)
    # Scaled, the zeros of a gene are still one value; residuals depend on the cell.
    if np.mean(np.diff(np.sort(values, axis=0), axis=0) == 0) > _MIN_REPEATED:
        return _fault("z-scores, centred and scaled by gene", "`sc.pp.scale`")
    return _fault("residuals by gene, as Pearson residuals are", "`sc.experimental.pp` or `sc.pp.regress_out`")


def _fault(kind: str, step: str) -> ScaleFault:
    remedy = f"Read log1p of normalised counts, as before {step}"
    return ScaleFault(f"the values look like {kind}", remedy, certain=True, below_zero=True)
