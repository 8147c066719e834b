"""The metrics of GEARS 0.0.2 under its own keys, of one perturbation.

Written anew after `compute_metrics`, `deeper_analysis` and `non_dropout_analysis` of `gears/inference.py`
(Roohani, Huang, Leskovec 2024, doi:10.1038/s41587-023-01905-6), of which all metrics of mean profiles are here. Those
that need every test cell (`frac_in_range*`, `*sigma*`), fold changes and `*_top200_hvg` are not.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.evaluation.de_genes import DeGenes

DE_SIZES = (20, 50, 100, 200)
HEADLINE = ("pearson_delta", "pearson_delta_de", "mse", "mse_de")
"""What the scGenePT publication reports, and by what models and baselines are compared here."""

Better = Literal["higher", "lower"]


def better(metric: str) -> Better:
    """Return which values of a metric are better."""
    return "lower" if metric.startswith("mse") or metric.startswith(("frac_opposite", "frac_0/1")) else "higher"


def pearson(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Return Pearson's correlation, and 0.0 where it is not defined (fewer than two values, or all of one value).

    SciPy gives NaN there, which GEARS replaces by 0.
    """
    if len(x) < 2 or np.all(x == x[0]) or np.all(y == y[0]):
        return 0.0
    x_centred, y_centred = x - x.mean(), y - y.mean()
    x_length, y_length = np.linalg.norm(x_centred), np.linalg.norm(y_centred)
    if not (x_length > 0 and y_length > 0):
        return 0.0
    return float(np.clip(np.dot(x_centred / x_length, y_centred / y_length), -1.0, 1.0))


def mean_squared_error(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Return the mean squared difference, NaN if there are no values."""
    return float(np.mean(np.square(x - y))) if len(x) else float("nan")


def perturbation_metrics(
    predicted: NDArray[np.floating], observed: NDArray[np.floating], control: NDArray[np.floating], de: DeGenes
) -> dict[str, float]:
    """Return every metric of one perturbation.

    Parameters
    ----------
    predicted, observed
        (n_genes,) mean predicted and mean measured expression, log1p scale.
    control
        (n_genes,) mean expression of all control cells of the data.
    de
        The perturbation's differentially expressed genes.

    Notes
    -----
    - `mse`, `pearson`: all genes. `_de`: the 20 genes that lead the ranking.
    - `pearson_delta*`: of changes against `control`. `pearson_delta_de` and `pearson_delta_top20_de` are one number
      under GEARS's two names.
    - `frac_correct_direction_N`: share of the top N whose change has the sign of the measured change; no change is a
      sign of its own. As in GEARS the divisor is N, also if fewer genes are ranked. `frac_opposite_*`: signs are
      opposite; `frac_0/1_*`: one of the two is no change.
    - `*_non_dropout`, `*_non_zero`: over the genes that `DeGenes` says.
    - Correlations that are not defined are 0, as in GEARS; see `pearson`.
    """
    predicted, observed, control = (np.asarray(values, dtype=np.float64) for values in (predicted, observed, control))
    predicted_delta, observed_delta = predicted - control, observed - control
    steps = np.abs(np.sign(predicted_delta) - np.sign(observed_delta))
    top20 = de.ranked[:20]
    values = {
        "mse": mean_squared_error(predicted, observed),
        "pearson": pearson(predicted, observed),
        "mse_de": mean_squared_error(predicted[top20], observed[top20]),
        "pearson_de": pearson(predicted[top20], observed[top20]),
        "pearson_delta": pearson(predicted_delta, observed_delta),
        "pearson_delta_de": pearson(predicted_delta[top20], observed_delta[top20]),
        "frac_correct_direction_all": float(np.mean(steps == 0)),
    }
    for size in DE_SIZES:
        values[f"frac_correct_direction_{size}"] = float(np.count_nonzero(steps[de.ranked[:size]] == 0) / size)
    for size in DE_SIZES:
        top = de.ranked[:size]
        values[f"pearson_delta_top{size}_de"] = pearson(predicted_delta[top], observed_delta[top])
        values[f"pearson_top{size}_de"] = pearson(predicted[top], observed[top])
        values[f"mse_top{size}_de"] = mean_squared_error(predicted_delta[top], observed_delta[top])
    chosen = de.non_dropout_20
    values["pearson_delta_top20_de_non_dropout"] = pearson(predicted_delta[chosen], observed_delta[chosen])
    values["pearson_top20_de_non_dropout"] = pearson(predicted[chosen], observed[chosen])
    values["mse_top20_de_non_dropout"] = mean_squared_error(predicted_delta[chosen], observed_delta[chosen])
    for name, genes in (
        ("top20_non_dropout", chosen),
        ("non_zero", de.non_zero),
        ("non_dropout", de.non_dropout),
    ):
        shares = [float(np.mean(steps[genes] == step)) if len(genes) else float("nan") for step in (0, 2, 1)]
        for kind, share in zip(("correct", "opposite", "0/1"), shares, strict=True):
            values[f"frac_{kind}_direction_{name}"] = share
    return values


def metric_names() -> tuple[str, ...]:
    """Return the keys of `perturbation_metrics`, in order."""
    one, none = np.zeros(1), np.zeros(0, dtype=np.int64)
    return tuple(perturbation_metrics(one, one, one, DeGenes(none, none, none, none, "")))
