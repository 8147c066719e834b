"""Small tables of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from scgenept_rt.output.table_spec import COUNTS, CellRows, TableSpec, by_perturbation

LABELS = ("FOSB+ctrl", "ZBTB1+SAMD1", "KLF1")
CONTROLS = ("AAAC-1", "AAAG-1", "AAAT-1", "AAAG-1")
LAYERS = ("delta", "sem", "delta_sem")
VAR = pd.DataFrame({"in_vocab": [True, True, True, False, True]}, index=["FOSB", "SAMD1", "ZBTB1", "KLF1", "CEBPA"])


def mean_table(var: pd.DataFrame = VAR, layers: tuple[str, ...] = LAYERS, uns: Any = ()) -> TableSpec:
    """One row per perturbation, from 4 control cells."""
    return TableSpec("mean", pd.DataFrame({"n_controls": 4}, index=[*LABELS]), var, layers, dict(uns))


def cells_table(
    labels: Any = LABELS, controls: Any = CONTROLS, counts: Any = None, annotation: Any = (), uns: Any = ()
) -> TableSpec:
    """One row per perturbation and control cell, or the number of these in `counts`."""
    counts = np.array([len(controls)] * len(labels) if counts is None else counts)
    columns = {"condition": by_perturbation(labels)}
    obs = CellRows(columns, labels, controls, dict(annotation), counts, np.zeros_like(counts))
    return TableSpec("cells", obs, VAR, (), dict(uns))


def rows_of(spec: TableSpec) -> dict[str, np.ndarray]:
    """Random values of all rows, by the names of the arrays of a table; its first means are from 1, 2, ... cells."""
    rng = np.random.default_rng(7)
    rows = {
        name: rng.normal(size=(spec.n_rows, *dtype.shape)).astype(dtype.base) for name, dtype in spec.arrays.items()
    }
    return {**rows, COUNTS: np.arange(1, spec.n_rows + 1)} if COUNTS in rows else rows


def part_of(rows: dict[str, np.ndarray], begin: int, end: int) -> dict[str, np.ndarray]:
    """The rows from `begin` up to `end`."""
    return {name: values[begin:end] for name, values in rows.items()}


def read_table(path: Path) -> anndata.AnnData:
    """A table that was written."""
    return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.io.read_zarr(path)
