"""Expression given as an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scgenept_rt.errors import ArgumentError, ExpressionValueError
from scgenept_rt.genes import GenePanel
from scgenept_rt.wording import describe, reason


def from_array(values: ArrayLike, panel: GenePanel) -> NDArray[np.float32]:
    """Return log1p expression as a C-contiguous float32 array, without a copy where it is one already.

    `values` are (n_cells, n_genes) in model gene order, of any integer or float dtype, or a SciPy sparse matrix; there
    may be no cells. The scale is not checked: any finite value goes to the network as it is.

    Raises `ArgumentError` if the shape or the dtype does not fit, a value is masked, or it is an AnnData or a data
    frame, whose genes `Predictor.predict` matches by name, and `ExpressionValueError` if a value is NaN or infinite,
    also after conversion to float32.
    """
    n_genes = len(panel)

    def unfit(found: str, remedy: str = "Pass a float32 array") -> ArgumentError:
        expected = f"real numbers of shape (n_cells, {n_genes}) in model gene order"
        return ArgumentError(f"values are {found}, expected {expected}", remedy)

    if hasattr(values, "obs") or hasattr(values, "columns"):  # their genes would be taken in any order
        remedy = "`Predictor.predict` takes an AnnData; of a data frame, pass `frame[model.gene_names].to_numpy()`"
        raise unfit(f"of type {type(values).__name__}", remedy)
    if any(map(np.ma.is_masked, values if isinstance(values, (list, tuple, np.ma.MaskedArray)) else ())):
        remedy = "Fill masked values with expression (`values.filled(0)` for none), or leave their cells out"
        raise unfit("masked", remedy)
    try:
        array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths, a tensor on a GPU
        raise unfit(f"no array ({reason(error)})") from error
    if array.dtype.kind not in "iuf":
        raise unfit(f"of dtype {array.dtype}" if array.ndim else describe(values))
    if array.ndim != 2 or array.shape[1] != n_genes:
        remedy = "`Predictor.predict` takes an AnnData, by names of genes; for one cell, pass values[None, :]"
        raise unfit(f"of shape {array.shape}", remedy)
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is reported below
        array = np.ascontiguousarray(array, dtype=np.float32)
    # One sum instead of a boolean array: it is finite unless a value is not, or the sum itself overflows.
    if not np.isfinite(np.sum(array, dtype=np.float64)):
        for row, gene in np.argwhere(~np.isfinite(array))[:1]:
            found = f"the value of row {row}, gene {panel.names[gene]!r} is {array[row, gene]}"
            raise ExpressionValueError(f"{found}, expected finite log1p-normalised expression", where="values")
    return array
