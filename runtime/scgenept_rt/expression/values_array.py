"""Expression given as an array."""

from __future__ import annotations

from typing import Any

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
        If the shape or the dtype is another, a value is masked, or it is an AnnData or a data frame, whose genes are
        matched by name elsewhere.
    NonFiniteValueError
        If a value is NaN or infinite, also after conversion to float32.
    """
    n_genes = len(panel)
    array = _plain_array(values, n_genes)
    if array.dtype.kind == "O" and array.ndim == 0:
        found = "None" if values is None else f"of type {type(values).__name__}"
        raise ValuesShapeError(found, n_genes, "Give an array of float32.")
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


def _plain_array(values: Any, n_genes: int) -> NDArray[Any]:
    """Return values as an array, unless `np.asarray` would drop a mask or the names of genes, or fail."""
    if hasattr(values, "obs") and hasattr(values, "var_names"):
        raise ValuesShapeError(f"an {type(values).__name__}", n_genes, "`Predictor.predict` takes an AnnData.")
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):
        remedy = "Put its columns into model gene order: `frame[model.gene_names].to_numpy()`."
        raise ValuesShapeError(f"a {type(values).__name__}", n_genes, remedy)
    row = _first_masked_row(values)
    if row is not None:
        remedy = "Fill masked values with expression (`values.filled(0)` for none), or leave their cells out."
        raise ValuesShapeError(f"masked in row {row}", n_genes, remedy)
    if hasattr(values, "toarray"):
        values = values.toarray()
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        ragged = isinstance(error, ValueError) and "inhomogeneous" in str(error)
        found = "rows of different lengths" if ragged else f"of type {type(values).__name__}, which makes no array"
        raise ValuesShapeError(found, n_genes, "Give an array of float32.") from error


def _first_masked_row(values: Any) -> int | None:
    if isinstance(values, np.ma.MaskedArray):
        masked = np.argwhere(np.ma.getmaskarray(values))
        return int(masked[0][0]) if masked.size else None
    if isinstance(values, (list, tuple)):
        return next((row for row, cell in enumerate(values) if np.ma.is_masked(cell)), None)
    return None
