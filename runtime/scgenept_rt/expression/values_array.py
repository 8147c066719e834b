"""Expression given as an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scgenept_rt.errors import NonFiniteValueError, ValuesShapeError
from scgenept_rt.genes import GenePanel


def from_array(values: ArrayLike, panel: GenePanel) -> NDArray[np.float32]:
    """Return log1p expression as a C-contiguous float32 array, without a copy where it is one already.

    Parameters
    ----------
    values
        (n_cells, n_genes) in model gene order, of any integer or float dtype, or a SciPy sparse matrix. No cells
        (shape (0, n_genes)) are allowed. Scale is not checked: any finite value goes to the network as it is.
    panel
        The model's genes.

    Raises
    ------
    ValuesShapeError
        If the shape or the dtype is another.
    NonFiniteValueError
        If a value is NaN or infinite, also after conversion to float32.
    """
    if hasattr(values, "toarray"):
        values = values.toarray()
    array = np.asarray(values)
    n_genes = len(panel)
    if array.dtype.kind not in "iuf":
        raise ValuesShapeError(f"of dtype {array.dtype}", n_genes, "Convert them to float32.")
    if array.ndim == 1 and array.shape == (n_genes,):
        raise ValuesShapeError(f"of shape {array.shape}", n_genes, "For one cell, give values[None, :].")
    if array.ndim != 2 or array.shape[1] != n_genes:
        remedy = "`Predictor.predict` takes an AnnData and matches its genes by name."
        raise ValuesShapeError(f"of shape {array.shape}", n_genes, remedy)
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is reported below
        array = np.ascontiguousarray(array, dtype=np.float32)
    # One sum instead of a boolean array: it is finite unless a value is not, or the sum itself overflows.
    if not np.isfinite(np.sum(array, dtype=np.float64)):
        for row, cell in enumerate(array):
            bad = np.flatnonzero(~np.isfinite(cell))
            if bad.size:
                gene = int(bad[0])
                raise NonFiniteValueError("values", f"row {row}", panel.names[gene], float(cell[gene]))
    return array
