"""Made-up screens whose answers are known."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scgenept_rt.options import Metric
from scgenept_rt.predictor.moments import CellMoments, Floor, OwnValues, mean_of_all
from scgenept_rt.ranking.scores import TowardState

GENES = [f"GENE{number}" for number in range(60)]
N_CELLS = 2_000


def effects_of(sizes: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw mean effects [n_perturbations, n_genes] of these lengths; each perturbation raises its own gene too."""
    effects = rng.normal(size=(len(sizes), len(GENES)))
    np.fill_diagonal(effects, 0.0)
    effects *= sizes[:, None] / np.linalg.norm(effects, axis=1, keepdims=True)
    np.fill_diagonal(effects, 30.0)
    return effects


def cells_of(effect: NDArray[np.float64], together: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw effects on single cells: genes vary on their own, and as much as `together` of it in common."""
    common = rng.normal(size=(N_CELLS, 1))
    own = rng.normal(size=(N_CELLS, len(effect)))
    return effect + 0.3 * (together**0.5 * common + (1 - together) ** 0.5 * own)


def prediction_file(effects: NDArray[np.float64], errors: float | NDArray[np.float64] = 0.01) -> anndata.AnnData:
    """Return the effects as a file of means that `predict` wrote."""
    labels = [f"{gene}+ctrl" for gene in GENES[: len(effects)]]
    sems = np.broadcast_to(errors, effects.shape).astype(np.float32)
    return anndata.AnnData(
        effects.astype(np.float32),
        obs=pd.DataFrame({"condition": labels, "n_controls": 100}, index=labels),
        var=pd.DataFrame(index=GENES),
        layers={"delta": effects.astype(np.float32), "delta_sem": sems},
        uns={"scgenept_rt": {"variant": "scgenept_go_c_gpt_concat"}},
    )


def mean_and_error(cells: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean effect and standard error of every gene, as `predict` computes them from cells."""
    n_genes = cells.shape[1]
    moments = CellMoments()
    moments.add(np.zeros_like(cells), cells, np.zeros_like(cells))
    estimate = mean_of_all(moments, OwnValues(np.zeros(n_genes), Floor(n_genes, 0.0)))
    return estimate["effect"], estimate["effect_sem"]


def toward(target: NDArray[np.float64], metric: Metric, parts: NDArray[np.float64] | None = None) -> TowardState:
    """Return the score of closeness to a change of all genes, of which the error is known if there are parts."""
    none = np.empty((0, len(target)))
    return TowardState(target, np.ones(len(target), bool), metric, none if parts is None else parts, "")
