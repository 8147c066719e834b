"""What is drawn: labels and genes of a screen, and predictions of more rows than a figure shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd

import scgenept_rt as sgr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# As long as names of the Norman data come.
GENES = tuple(f"RP11-{number}O18.{number % 9}" if number % 3 else f"GENE{number}" for number in range(120))
LABELS = (*(f"{GENES[gene]}+ctrl" for gene in range(8)), f"{GENES[0]}+{GENES[1]}")
SINGLE, PAIR = LABELS[0], LABELS[-1]


def many_rows(means, n_rows: int, n_genes: int = 120) -> anndata.AnnData:
    """Predictions of `n_rows` perturbations, whose change grows with their number; they are not in that order."""
    order = np.random.default_rng(0).permutation(n_rows)
    names = [f"P{number}+ctrl" for number in order]
    delta = np.random.default_rng(1).choice([-1.0, 1.0], (n_rows, n_genes)) * (1 + order[:, None])
    return anndata.AnnData(
        delta.astype(np.float32),
        obs=pd.DataFrame({"condition": names, "n_controls": 40}, index=names),
        var=pd.DataFrame(index=[f"G{number}" for number in range(n_genes)]),
        layers={"delta": delta.astype(np.float32)},
        uns=dict(means.uns),
    )


def draw(kind: str, data, means, *arguments, ax=None) -> Axes:
    if kind in ("top_de", "agreement"):
        return getattr(sgr.pl, kind)(data, SINGLE, means, ax=ax)
    arguments = (SINGLE,) if kind in ("delta", "volcano") else arguments
    return getattr(sgr.pl, kind)(means, *arguments, ax=ax)
