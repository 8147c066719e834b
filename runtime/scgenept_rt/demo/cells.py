"""Synthetic control cells: what the demo network was trained on, and what `scgenept-rt demo` predicts from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import ndtri

from scgenept_rt.bundle import Bundle, demo_bundle_path

if TYPE_CHECKING:
    from anndata import AnnData

DEMO_CELLS = 8

# About 400 of 5,045 genes are then non-zero in a cell (8%) and values reach about 4, as in the Norman data.
_LOG_RATE_MEAN, _LOG_RATE_SD = -4.0, 2.0
_LOG_DEPTH_SD = 0.3


def expression_rates(gene_names: Sequence[str]) -> NDArray[np.float64]:
    """Return the synthetic mean count of each gene in a cell, [n_genes]; log-normal over genes.

    A rate follows from the gene's name alone (a hash), so that cells always match those of the network's training.
    """
    digests = [hashlib.sha256(name.encode()).digest() for name in gene_names]
    uniform = np.array([(int.from_bytes(digest[:6], "big") + 0.5) / 2**48 for digest in digests])
    return np.asarray(np.exp(_LOG_RATE_MEAN + _LOG_RATE_SD * ndtri(uniform)), dtype=np.float64)


def draw_expression(rates: NDArray[np.float64], n_cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw control cells: Poisson counts at varying depth, divided by depth, log1p; float32 [n_cells, n_genes]."""
    depth = rng.lognormal(0.0, _LOG_DEPTH_SD, (n_cells, 1))
    return np.log1p(rng.poisson(depth * rates) / depth).astype(np.float32)


def demo_control_cells(n_cells: int = DEMO_CELLS, seed: int = 0) -> AnnData:
    """Make synthetic control cells in the layout of the published Norman file.

    X is CSR float32 [n_cells, 5045] on the log1p scale, about 8% non-zero; obs has `condition` ("ctrl"), var_names are
    Ensembl ids, var has `gene_name`.
    """
    import anndata
    import pandas as pd

    manifest = Bundle.open(demo_bundle_path(), check_files=False).manifest
    values = draw_expression(expression_rates(manifest.gene_names), n_cells, np.random.default_rng(seed))
    obs = pd.DataFrame({"condition": pd.Categorical(["ctrl"] * n_cells)}, index=[f"cell{i}" for i in range(n_cells)])
    var = pd.DataFrame({"gene_name": list(manifest.gene_names)}, index=list(manifest.gene_ids))
    return anndata.AnnData(csr_matrix(values), obs=obs, var=var, uns={"synthetic": True})
