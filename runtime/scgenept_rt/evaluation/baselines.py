"""Predictions without a model, from training cells alone, for a model to beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CONTROL_MEAN = "control mean"
TRAIN_MEAN = "training mean"
ADDITIVE = "additive"
BASELINES = (CONTROL_MEAN, TRAIN_MEAN, ADDITIVE)

DESCRIPTIONS: Mapping[str, str] = {
    CONTROL_MEAN: "no change: the mean of all control cells",
    TRAIN_MEAN: "the mean of all perturbed cells of the training set, the same for every perturbation",
    ADDITIVE: "pairs: the control mean plus the changes by those of its genes that training perturbed alone",
}


def additive_prediction(
    genes: tuple[str, ...], control: NDArray[np.float64], single_means: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64] | None:
    """Return the control mean plus the changes by the single perturbations of a pair of genes, all (n_genes,).

    `single_means` are those of the training cells in which a gene was perturbed alone. A gene that was not adds
    nothing; None if neither was, or if there are not two genes.
    """
    if len(genes) != 2 or not any(gene in single_means for gene in genes):
        return None
    prediction = control.copy()
    for gene in genes:
        if gene in single_means:
            prediction += single_means[gene] - control
    return prediction
