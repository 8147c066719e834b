"""Genetic interactions of perturbed pairs, as GEARS scores them.

The change by a double perturbation is fitted by the changes of its two singles, over genes:
``double = c1 * first + c2 * second`` without intercept (Norman et al. 2019, doi:10.1126/science.aax4438). GEARS
(Roohani, Huang, Leskovec 2024, doi:10.1038/s41587-023-01905-6; `get_coeffs` in `gears/utils.py` of release 0.0.2)
derives the scores that `interaction_scores` returns. Here they are computed from a model's predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import comb, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError, PerturbationError, UseOption
from scgenept_rt.options import ReadOptions, SampleOptions, resolve
from scgenept_rt.perturbation import PerturbationRequest
from scgenept_rt.predictor import Predictor, Progress
from scgenept_rt.wording import pluralize

if TYPE_CHECKING:
    from anndata import AnnData

    from scgenept_rt.predictor.batches import OnNotice

ADDITIVE_MAGNITUDE = sqrt(2.0)
"""Magnitude of a pair whose changes add up (c1 = c2 = 1)."""
MIN_CONTROL_MEAN = 0.25
MIN_GENES = 10

_MAX_SUBSETS = 100_000
_SEED = 1000
_ADDITIVE_WITHIN = 0.1
_DOMINANT_FROM = 0.5
_ALIKE_FROM = 0.95
_DISTANCES_AT_ONCE = 1 << 20


def interaction_scores(
    first: NDArray[np.floating], second: NDArray[np.floating], double: NDArray[np.floating]
) -> dict[str, Any]:
    """Return the scores of a pair: how a double perturbation relates to its two singles.

    Parameters
    ----------
    first, second, double
        (n_genes,) changes against control by each single and by the double perturbation.

    Returns
    -------
    dict
        - `c1`, `c2`: coefficients of the first and the second gene's change in the fit;
        - `magnitude`: ``sqrt(c1**2 + c2**2)``, high for synergy, low for suppression;
        - `model_fit`: Pearson correlation of the fit with the double's change (GEARS: `corr_fit`). Low: the double does
          what neither single does (neomorphism);
        - `dominance`: ``|log10(c1 / c2)|``, 0 if both contribute alike, high for epistasis. NaN where the coefficients
          differ in sign, infinite where one of them is 0;
        - `equality_of_contribution`: the smaller of the distance correlations of a single with the double, divided by
          the larger (GEARS: `eq_contr`);
        - `similarity`: distance correlation of the two singles together with the double (GEARS: `dcor`). High with a
          low magnitude: redundancy;
        - `similarity_of_singles`, `similarity_first`, `similarity_second`: distance correlation of the singles with
          each other, and of each with the double (GEARS: `dcor_singles`, `dcor_first`, `dcor_second`);
        - `n_genes`: genes that the scores are over;
        - `kind`: "additive" within a tenth of `ADDITIVE_MAGNITUDE` (this package's threshold), else "synergy" or
          "suppression";
        - `dominant`: 0 or 1 for the gene with over three times the other's coefficient (this package's threshold), or
          None;
        - `singles_alike`: whether the singles' changes are nearly the same (`similarity_of_singles` from 0.95 on). Many
          pairs of coefficients then fit equally well, and magnitude and dominance mean nothing.

    Raises
    ------
    ArgumentError
        If there are fewer than two genes, or shapes differ.
    """
    changes = [np.asarray(change, dtype=np.float64) for change in (first, second, double)]
    if changes[0].ndim != 1 or len({change.shape for change in changes}) != 1 or len(changes[0]) < 2:
        shapes = ", ".join(str(change.shape) for change in changes)
        raise ArgumentError(f"changes have the shapes {shapes}, expected (n_genes,) each, with two genes or more")
    one, two, both = changes
    singles = np.column_stack([one, two])
    c1, c2 = theil_sen(singles, both)
    with np.errstate(divide="ignore", invalid="ignore"):
        model_fit = float(np.corrcoef(singles @ (c1, c2), both)[0, 1])
        dominance = float(np.abs(np.log10(c1 / c2)))
    magnitude = float(np.hypot(c1, c2))
    similarity_first, similarity_second = distance_correlation(one, both), distance_correlation(two, both)
    larger = max(similarity_first, similarity_second)
    similarity_of_singles = distance_correlation(one, two)
    additive = abs(magnitude / ADDITIVE_MAGNITUDE - 1.0) <= _ADDITIVE_WITHIN
    return {
        "c1": float(c1),
        "c2": float(c2),
        "magnitude": magnitude,
        "model_fit": model_fit,
        "dominance": dominance,
        "equality_of_contribution": min(similarity_first, similarity_second) / larger if larger > 0 else float("nan"),
        "similarity": distance_correlation(singles, both),
        "similarity_of_singles": similarity_of_singles,
        "similarity_first": similarity_first,
        "similarity_second": similarity_second,
        "n_genes": len(one),
        "kind": "additive" if additive else "synergy" if magnitude > ADDITIVE_MAGNITUDE else "suppression",
        "dominant": (0 if abs(c1) > abs(c2) else 1) if dominance > _DOMINANT_FROM else None,
        "singles_alike": similarity_of_singles >= _ALIKE_FROM,
    }


def predicted_interactions(
    predictor: Predictor,
    cells: str | Path | AnnData,
    pairs: Sequence[str],
    *,
    min_control_mean: float = MIN_CONTROL_MEAN,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
    on_notice: OnNotice | None = None,
    **sample: Unpack[SampleOptions],
) -> list[dict[str, Any]]:
    """Predict pairs and their singles from the same control cells, and score the pairs.

    Parameters
    ----------
    pairs
        Labels of two genes each, such as ``SAMD1+ZBTB1``.
    min_control_mean
        Score over the genes with at least this mean in the control cells (log1p scale); 0 for all genes. GEARS uses a
        list of highly expressed genes of the Norman data instead.
    read, progress, on_notice, **sample
        As in `Predictor.predict`; of its options n_controls and seed.

    Returns
    -------
    list of dict
        One per pair: `perturbation` (the label as given), `first` and `second` (the model's names of its genes, in that
        order), `n_controls`, and what `interaction_scores` returns, `dominant` as a gene or None. ``gi --csv`` and
        ``--json`` write these, with `synthetic` (whether the weights are) beside.

    Raises
    ------
    PerturbationError
        If a label does not have two genes.
    ArgumentError
        If fewer than `MIN_GENES` genes are expressed.
    ScgeneptError
        As `Predictor.predict`.
    """
    parsed, _ = predictor.parse(pairs)
    for pair in parsed:
        if len(pair.target_genes) != 2:
            raise PerturbationError(
                f"perturbation {pair.label!r} has {pluralize(len(pair.target_genes), 'gene')}, an interaction has two",
                "Give pairs such as SAMD1+ZBTB1",
            )
    names = []
    for pair in parsed:  # in the order of the label, if it spells genes as the model does
        first, second = pair.target_genes
        names.append((second, first) if pair.label.split("+")[0].strip() == second else (first, second))
    requests: list[str | PerturbationRequest] = [*dict.fromkeys(chain(*names)), *(pair.label for pair in parsed)]
    deltas: dict[str, NDArray[np.float64]] = {}
    for rows in predictor.iter_predict(
        cells, requests, read=read, progress=progress, on_notice=on_notice, **resolve(SampleOptions, sample)
    ):
        deltas[rows.perturbation.canonical] = rows.layers["delta"][0].astype(np.float64)
        control = rows.X[0] - deltas[rows.perturbation.canonical]  # the same for all, up to rounding
    genes = control >= (min_control_mean or -np.inf)
    if (n_genes := int(genes.sum())) < MIN_GENES:
        raise ArgumentError(
            f"{n_genes:,} of {len(genes):,} genes have a mean of {min_control_mean:g} or more over the control cells, "
            f"expected at least {MIN_GENES}",
            options=[UseOption("min_control_mean", "score over all genes", 0)],
        )
    found = []
    for pair, (first, second) in zip(parsed, names, strict=True):
        scores = interaction_scores(*(deltas[label][genes] for label in (first, second, pair.canonical)))
        scores["dominant"] = {0: first, 1: second}.get(scores["dominant"])
        of_pair = {"perturbation": pair.label, "first": first, "second": second, "n_controls": rows.n_controls}
        found.append(of_pair | scores)
    return found


def theil_sen(predictors: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit two coefficients without intercept robustly: the spatial median over the exact solutions of pairs of genes.

    The estimator of scikit-learn's `TheilSenRegressor`, which GEARS uses (Dang et al. 2008): over all pairs of genes if
    these are at most 100,000, else over as many drawn at random with a seed of this package's own. `predictors` is
    (n_genes, 2), `response` (n_genes,).
    """
    n_genes = len(response)
    if comb(n_genes, 2) <= _MAX_SUBSETS:
        first, second = np.triu_indices(n_genes, 1)
    else:
        rng = np.random.default_rng(_SEED)
        first = rng.integers(0, n_genes, _MAX_SUBSETS)
        second = rng.integers(0, n_genes - 1, _MAX_SUBSETS)
        second += second >= first  # two different genes
    subsets = np.column_stack([first, second])
    # The pseudoinverse gives the shortest solution where two genes do not determine one, as LAPACK's gelss does.
    inverses = np.linalg.pinv(predictors[subsets], rcond=np.finfo(np.float64).eps)
    return spatial_median(np.einsum("sij,sj->si", inverses, response[subsets]))


def spatial_median(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the point with the least sum of distances to `points` (n_points, n_dimensions).

    Weiszfeld's iteration as of Vardi and Zhang (2000), which may pass through a point of the set.
    """
    median: NDArray[np.float64] = points.mean(axis=0)
    for _ in range(1000):
        distances = np.linalg.norm(points - median, axis=1)
        apart = distances > np.finfo(np.float64).eps
        if not apart.any():
            return median
        weights = 1.0 / distances[apart]
        step = (points[apart] * weights[:, None]).sum(axis=0) / weights.sum()
        n_here = len(points) - int(apart.sum())
        if n_here:
            pull = float(np.linalg.norm(((points[apart] - median) * weights[:, None]).sum(axis=0)))
            share = min(1.0, n_here / pull) if pull > 0 else 1.0
            step = (1.0 - share) * step + share * median
        moved = np.linalg.norm(step - median)
        median = step
        if moved < 1e-6:
            break
    return median


def distance_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the distance correlation (Székely, Rizzo, Bakirov 2007, the V-statistic), from 0 to 1.

    `x` and `y` are (n_samples,) or (n_samples, n_dimensions); 0 is returned if one of them does not vary.
    """
    from scipy.spatial.distance import cdist

    x, y = (values.reshape(len(values), -1) for values in (x, y))
    n = len(x)
    step = max(1, _DISTANCES_AT_ONCE // n)
    products, means = np.zeros((2, 2)), np.empty((2, n))  # of distances; their means by row
    for part in (slice(begin, begin + step) for begin in range(0, n, step)):
        distances = [cdist(values[part], values) for values in (x, y)]
        means[:, part] = [each.mean(axis=1) for each in distances]
        products += [[float((a * b).sum()) for a in distances] for b in distances]
    # The means of doubly centred products, without the centred matrices in memory.
    covariances = products / n**2 + np.outer(means.mean(axis=1), means.mean(axis=1)) - 2.0 * (means @ means.T) / n
    (of_x, of_both), (_, of_y) = np.maximum(covariances, 0.0)
    variances = float(of_x * of_y)
    return sqrt(of_both / sqrt(variances)) if variances > 0.0 else 0.0
