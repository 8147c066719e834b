"""Cells for the checks of files, changes to them, and what a check found."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility import Report
from scgenept_rt.compatibility.checks import Finding
from scgenept_rt.errors import ScgeneptError
from scgenept_rt.options import ReadOptions
from scgenept_rt.predictor import Predictor

N_CONTROL, N_OTHER = 40, 20


def counts_of(n_obs: int, n_vars: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    counts = generator.poisson(generator.uniform(0.5, 6, n_vars) * generator.uniform(0.5, 2, (n_obs, 1)))
    counts[:, 0] += 3
    return counts.astype(np.float32)


def normalised(counts: np.ndarray, total: float = 1000.0) -> np.ndarray:
    return np.log1p(counts / counts.sum(1, keepdims=True) * total).astype(np.float32)


def labels_of(bundle: Bundle) -> list[str]:
    genes = bundle.manifest.gene_names
    return ["ctrl"] * N_CONTROL + [f"{genes[5]}+ctrl"] * (N_OTHER // 2) + [f"ctrl+{genes[7]}"] * (N_OTHER // 2)


def cells_of(bundle: Bundle, x: object = None, conditions: object = None) -> anndata.AnnData:
    """Return good cells: all genes of the model by symbol, 40 controls and two perturbations."""
    names = list(bundle.manifest.gene_names)
    values = normalised(counts_of(N_CONTROL + N_OTHER, len(names))) if x is None else x
    obs = pd.DataFrame(index=[f"cell{row}" for row in range(values.shape[0])])
    if conditions is not False:
        obs["condition"] = pd.Categorical(labels_of(bundle) if conditions is None else conditions)
    return anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=names))


def written(adata: anndata.AnnData, folder: Path, name: str = "cells.h5ad") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (adata.write_zarr if name.endswith(".zarr") else adata.write_h5ad)(folder / name)
    return folder / name


def predict_works(predictor: Predictor, path: Path, options: ReadOptions, folder: Path, **limits: int) -> bool:
    label = f"{predictor.gene_names[5]}+ctrl"
    try:
        predictor.predict_file(path, folder / "predicted.h5ad", [label], read=options, overwrite=True, **limits)
    except ScgeneptError:
        return False
    return True


def problems(report: Report) -> set[str]:
    return {entry.topic for entry in report.problems}


def finding(report: Report, topic: str) -> Finding:
    found = [entry for entry in report.findings if entry.topic == topic]
    assert len(found) == 1, found
    return found[0]


def with_x(adata: anndata.AnnData, x: object) -> anndata.AnnData:
    return anndata.AnnData(x, obs=adata.obs, var=adata.var)


def with_var(adata: anndata.AnnData, var_names: list[str], **columns: list[str]) -> anndata.AnnData:
    return anndata.AnnData(adata.X, obs=adata.obs, var=pd.DataFrame(columns, index=var_names))


def with_conditions(adata: anndata.AnnData, conditions: list[str], key: str = "condition") -> anndata.AnnData:
    obs = pd.DataFrame({key: conditions}, index=adata.obs_names)
    return anndata.AnnData(adata.X, obs=obs, var=adata.var)


def scaled(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean(0)) / (x.std(0) + 1e-3)).astype(np.float32)


def with_layer(adata: anndata.AnnData, x: np.ndarray, **layers: np.ndarray) -> anndata.AnnData:
    changed = with_x(adata, x)
    changed.layers.update(layers)
    return changed


def with_raw(adata: anndata.AnnData) -> anndata.AnnData:
    changed = with_x(adata, scaled(adata.X))
    changed.raw = adata
    return changed


def with_value(adata: anndata.AnnData, cell: int, gene: int, value: float) -> anndata.AnnData:
    x = np.array(adata.X)
    x[cell, gene] = value
    return with_x(adata, x)
