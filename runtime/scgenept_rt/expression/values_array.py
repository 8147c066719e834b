"""Expression given as an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scgenept_rt.errors import ArgumentError, ExpressionValueError, describe
from scgenept_rt.genes import GenePanel


def from_array(values: ArrayLike, panel: GenePanel) -> NDArray[np.float32]:
    """Return log1p expression as a C-contiguous float32 array, without a copy where it is one already.

    Parameters
    ----------
    values
        (n_cells, n_genes) in model gene order, of any integer or float dtype, or a SciPy sparse matrix. No cells
        (shape (0, n_genes)) are allowed. The scale is not checked: any finite value goes to the network as it is.
    panel
        The model's genes.

    Raises
    ------
    ArgumentError
        If the shape or the dtype does not fit, a value is masked, or it is an AnnData or a data frame, whose genes
        `Predictor.predict` matches by name.
    ExpressionValueError
        If a value is NaN or infinite, also after conversion to float32.
    """
    n_genes = len(panel)
    array = _plain_array(values, n_genes)
    if array.dtype.kind == "O" and array.ndim == 0:
        raise _unfit(describe(values), n_genes, "Pass a float32 array")
    if array.dtype.kind not in "iuf":
        raise _unfit(f"of dtype {array.dtype}", n_genes, "Convert them to float32")
    if array.ndim == 1 and array.shape == (n_genes,):
        raise _unfit(f"of shape {array.shape}", n_genes, "For one cell, pass values[None, :]")
    if array.ndim != 2 or array.shape[1] != n_genes:
        remedy = "`Predictor.predict` takes an AnnData and matches its genes by name"
        raise _unfit(f"of shape {array.shape}", n_genes, remedy)
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is reported below
        array = np.ascontiguousarray(array, dtype=np.float32)
    # One sum instead of a boolean array: it is finite unless a value is not, or the sum itself overflows.
    if not np.isfinite(np.sum(array, dtype=np.float64)):
        for row, gene in np.argwhere(~np.isfinite(array))[:1]:
            raise ExpressionValueError(
                f"the value of row {row}, gene {panel.names[gene]!r} is {array[row, gene]}, expected finite "
                "log1p-normalised expression",
                where="values",
            )
    return array


def _plain_array(values: Any, n_genes: int) -> NDArray[Any]:
    """Return values as an array, unless `np.asarray` would drop a mask or the names of genes, or fail."""
    if hasattr(values, "obs") and hasattr(values, "var_names"):
        raise _unfit(f"an {type(values).__name__}", n_genes, "`Predictor.predict` takes an AnnData")
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):
        remedy = "Put its columns into model gene order: `frame[model.gene_names].to_numpy()`"
        raise _unfit(f"a {type(values).__name__}", n_genes, remedy)
    rows = values if isinstance(values, (list, tuple, np.ma.MaskedArray)) else ()
    masked = next((row for row, cell in enumerate(rows) if np.ma.is_masked(cell)), None)
    if masked is not None:
        remedy = "Fill masked values with expression (`values.filled(0)` for none), or leave their cells out"
        raise _unfit(f"masked in row {masked}", n_genes, remedy)
    if hasattr(values, "toarray"):
        values = values.toarray()
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        ragged = isinstance(error, ValueError) and "inhomogeneous" in str(error)
        found = "rows of different lengths" if ragged else f"of type {type(values).__name__}, which makes no array"
        raise _unfit(found, n_genes, "Pass a float32 array") from error


def _unfit(found: str, n_genes: int, remedy: str) -> ArgumentError:
    return ArgumentError(
        f"values are {found}, expected real numbers of shape (n_cells, {n_genes}) in model gene order", remedy
    )
