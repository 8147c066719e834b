"""The metrics of GEARS 0.0.2 for one perturbation, under its own keys.

Reimplements `compute_metrics`, `deeper_analysis` and `non_dropout_analysis` of `gears/inference.py`
(Roohani, Huang, Leskovec 2024, doi:10.1038/s41587-023-01905-6), with all of their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.evaluation.de_genes import DeGenes

DE_SIZES = (20, 50, 100, 200)
N_VARIABLE_GENES = 200
_FOLD_CHANGE_RANGES = {"all": (0.0, np.inf), "downreg_0.33": (0.0, 0.333), "downreg_0.1": (0.0, 0.1)} | {
    f"upreg_{bound}": (float(bound), np.inf) for bound in (3, 10)
}
"""Measured fold changes, bounds excluded, over which GEARS averages the gap."""

_QUANTILES = {"": (0.0, 1.0), "_45_55": (0.45, 0.55), "_40_60": (0.4, 0.6), "_25_75": (0.25, 0.75)}
_LOWER_IS_BETTER = ("mse", "frac_opposite", "frac_0/1", "mean_sigma", "std_sigma", "fold_change_gap")

HEADLINE = ("pearson_delta", "pearson_delta_de", "mse", "mse_de")
"""Metrics of the scGenePT publication, by which models and baselines are compared."""


def higher_is_better(metric: str) -> bool:
    """Return whether higher values of a metric are better, and not lower ones."""
    return not metric.startswith(_LOWER_IS_BETTER)


def pearson(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Return Pearson's correlation; 0.0 for fewer than two values or constant values, as in GEARS."""
    return float(_correlations(np.asarray(x)[None], np.asarray(y))[0])


def _correlations(rows: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the correlation of each row with `y`, as `pearson`."""
    found = np.zeros(len(rows))
    if len(y) < 2 or np.all(y == y[0]):
        return found
    x_centred, y_centred = rows - rows.mean(axis=1, keepdims=True), y - y.mean()
    x_length, y_length = np.linalg.norm(x_centred, axis=1), np.linalg.norm(y_centred)
    defined = np.any(rows != rows[:, :1], axis=1) & (x_length > 0) & (y_length > 0)
    found[defined] = np.clip(x_centred[defined] / x_length[defined, None] @ (y_centred / y_length), -1.0, 1.0)
    return found


def _mean(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of each row, NaN for rows without values."""
    return np.asarray(rows.mean(axis=1)) if rows.shape[1] else np.full(len(rows), np.nan)


def most_variable_genes(condition_std: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the 200 genes whose mean expression varies most between conditions, as `deeper_analysis` takes them."""
    return np.argsort(condition_std, kind="stable")[-N_VARIABLE_GENES:].astype(np.int64)


def perturbation_metrics(
    predicted: NDArray[np.floating],
    observed: NDArray[np.floating],
    control: NDArray[np.floating],
    de: DeGenes,
    *,
    cells: Sequence[NDArray[np.floating]] | None = None,
    variable_genes: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return every metric of one perturbation: a float, or for several predictions float64 (n_methods,).

    Parameters
    ----------
    predicted
        (n_genes,) mean predicted expression, log1p scale, or (n_methods, n_genes) for several predictions.
    observed
        (n_genes,) mean measured expression.
    control
        (n_genes,) mean expression of all control cells of the data.
    de
        The perturbation's differentially expressed genes.
    cells
        Expression in each perturbed cell of the first 20 of `de.ranked` and of `de.non_dropout_20`, each
        (n_cells, at most 20); without it the metrics of their spread (`frac_in_range*`, `*sigma*` and
        `frac_correct_direction_20_nonzero`) are left out.
    variable_genes
        See `most_variable_genes`; without them `*_top200_hvg` are left out.

    Notes
    -----
    docs/evaluation.md defines each metric. Correlations that are not defined are 0, as in GEARS. Where GEARS gives no
    number or fails (no gene has such a fold change, for example), the metric is NaN.
    """
    if np.ndim(predicted) == 1:
        found = perturbation_metrics(
            np.asarray(predicted)[None], observed, control, de, cells=cells, variable_genes=variable_genes
        )
        return {name: float(value) for name, (value,) in found.items()}
    predicted, observed, control = (np.asarray(values, dtype=np.float64) for values in (predicted, observed, control))
    predicted_delta, observed_delta = predicted - control, observed - control
    squares = np.square(predicted - observed)
    steps = np.abs(np.sign(predicted_delta) - np.sign(observed_delta))
    top20 = de.ranked[:20]
    values = {
        "mse": _mean(squares),
        "pearson": _correlations(predicted, observed),
        "mse_de": _mean(squares[:, top20]),
        "pearson_de": _correlations(predicted[:, top20], observed[top20]),
        "pearson_delta": _correlations(predicted_delta, observed_delta),
        "pearson_delta_de": _correlations(predicted_delta[:, top20], observed_delta[top20]),
        "frac_correct_direction_all": _mean(steps == 0),
    }
    for size in DE_SIZES:
        values[f"frac_correct_direction_{size}"] = np.count_nonzero(steps[:, de.ranked[:size]] == 0, axis=1) / size
    lists = {f"top{size}_de": de.ranked[:size] for size in DE_SIZES} | {"top20_de_non_dropout": de.non_dropout_20}
    if variable_genes is not None:
        lists[f"top{N_VARIABLE_GENES}_hvg"] = variable_genes
    for name, genes in lists.items():
        values[f"pearson_delta_{name}"] = _correlations(predicted_delta[:, genes], observed_delta[genes])
        values[f"pearson_{name}"] = _correlations(predicted[:, genes], observed[genes])
        values[f"mse_{name}"] = _mean(squares[:, genes])
    signs = {"top20_non_dropout": de.non_dropout_20, "non_zero": de.non_zero, "non_dropout": de.non_dropout}
    for name, genes in signs.items():
        for kind, step in (("correct", 0), ("opposite", 2), ("0/1", 1)):
            values[f"frac_{kind}_direction_{name}"] = _mean(steps[:, genes] == step)
    values |= _fold_change_gaps(predicted, observed, control)
    if cells is not None:
        ranked, non_dropout = (np.asarray(expression, dtype=np.float64) for expression in cells)
        values["frac_correct_direction_20_nonzero"] = _direction_20_nonzero(predicted, control, top20, ranked)
        values |= _spread_metrics(predicted[:, top20], ranked)
        spread = _spread_metrics(predicted[:, de.non_dropout_20], non_dropout)
        values |= {f"{key}_non_dropout": value for key, value in spread.items()}
    return values


def _fold_change_gaps(
    predicted: NDArray[np.float64], observed: NDArray[np.float64], control: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the mean difference of predicted and measured fold changes over control, by measured fold change."""
    usable = (control != 0) & (observed >= 0.5)  # as in GEARS
    measured = observed[usable] / control[usable]
    gap = np.abs(predicted[:, usable] / control[usable] - measured)
    return {
        f"fold_change_gap_{name}": _mean(gap[:, (measured > low) & (measured < high)])
        for name, (low, high) in _FOLD_CHANGE_RANGES.items()
    }


def _spread_metrics(predicted: NDArray[np.float64], cells: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the position of predicted means in the distribution over measured cells.

    `frac_in_range*`: share of the genes that some cell expresses whose predicted mean lies between two quantiles of the
    cells. `*sigma*`: distance of the predicted from the measured mean in standard deviations of the cells, of genes
    whose expression varies. (In GEARS, rounding may keep genes that are equal in all cells.)
    """
    expressed = np.any(cells != 0, axis=0)
    bounds = np.quantile(cells[:, expressed], list(_QUANTILES.values()), axis=0)
    within = [_mean((predicted[:, expressed] >= low) & (predicted[:, expressed] <= high)) for low, high in bounds]
    # Not by the standard deviation, which rounding keeps from being 0 where all cells are equal.
    varies = np.ptp(cells, axis=0) > 0
    sigma = np.abs(predicted[:, varies] - cells[:, varies].mean(axis=0)) / cells[:, varies].std(axis=0)
    return {
        **{f"frac_in_range{name}": share for name, share in zip(_QUANTILES, within, strict=True)},
        "mean_sigma": _mean(sigma),
        "std_sigma": sigma.std(axis=1) if varies.any() else _mean(sigma),
        "frac_sigma_below_1": _mean(sigma <= 1),
        "frac_sigma_below_2": _mean(sigma <= 2),
    }


def _direction_20_nonzero(
    predicted: NDArray[np.float64],
    control: NDArray[np.float64],
    top20: NDArray[np.int64],
    cells: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return GEARS's share of the expressed top 20 genes whose change has the measured sign.

    GEARS compares the expression of these genes in the order of genes with control means in the order of the ranking.
    The number is for comparison with GEARS only.
    """
    by_gene = np.argsort(top20, kind="stable")
    expressed = np.any(cells[:, by_gene] != 0, axis=0)
    other = control[top20][expressed]
    measured = np.sign(cells[:, by_gene].mean(axis=0)[expressed] - other)
    return _mean(np.sign(predicted[:, top20[by_gene]][:, expressed] - other) == measured)


def metric_names() -> tuple[str, ...]:
    """Return the keys of `perturbation_metrics`, in order."""
    one, gene = np.zeros(1), np.zeros(1, dtype=np.int64)
    de, cells = DeGenes(gene, gene, gene, gene, ""), (np.zeros((1, 1)), np.zeros((1, 1)))
    return tuple(perturbation_metrics(one, one, one, de, cells=cells, variable_genes=gene))
