"""Standard errors that hold: how often two of them cover the truth, over made-up networks and numbers of cells.

The table of docs/output.md shows these shares: run with `-s`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scgenept_rt.predictor.moments import CellMoments, OwnValues, RunningMoments, mean_of_all, mean_of_some

Array = NDArray[np.float64]
N_CELLS, N_GENES = 1_024, 200
Network = Callable[[Array, int], Array]


def draw_cells(log_rate: float, rng: np.random.Generator) -> Array:
    """Draw log1p counts of varying depth."""
    depth = rng.lognormal(0.0, 0.3, (N_CELLS, 1))
    rates = np.exp(rng.normal(log_rate, 2.0 if log_rate < 0 else 0.5, N_GENES))
    return np.log1p(rng.poisson(depth * rates) / depth)


def own_effect(x: Array, perturbation: int) -> Array:
    """Every gene depends on itself alone: where it is not expressed, nothing varies."""
    genes = np.arange(N_GENES)
    return x * np.where(genes % 7 == perturbation, 0.5, 1.0) + np.where(genes % 11 == perturbation, 0.3, 0.0)


def mixing(x: Array, perturbation: int) -> Array:
    """Every gene depends on all, and all move together a little."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0.0, N_GENES**-0.5, (N_GENES, N_GENES))
    gain = 1 + perturbation * rng.normal(0.0, 0.3, N_GENES)
    together = np.tanh(x @ weights[:, 0])[:, None] * rng.normal(0.0, 0.1, N_GENES) * (1 + 0.3 * perturbation)
    return 0.6 * gain * x + 0.2 * np.tanh(x @ weights + 0.3 * perturbation) + together


def moments_of(x: Array, f: Array, f0: Array | None = None) -> CellMoments:
    moments = CellMoments()
    moments.add(x, f, f0)
    return moments


def own_of(x: Array) -> OwnValues:
    return OwnValues.of(len(x), (x != 0).sum(axis=0), x.sum(axis=0), np.square(x).sum(axis=0))


CASES = {"very sparse": (-4.0, own_effect), "sparse": (-2.0, mixing), "dense": (2.0, mixing)}


def covered(network: Network, x: Array, n: int) -> dict[str, float]:
    """Return how often two standard errors from n cells cover the truth, over genes and 60 draws."""
    rng = np.random.default_rng(n)
    f0, f = network(x, 0), network(x, 1)
    own, unperturbed = own_of(x), moments_of(x, f0)
    mean, change = f.mean(axis=0), (f - x).mean(axis=0)
    shares: dict[str, list[float]] = {"sem": [], "delta_sem": [], "sampling_error": []}
    for _ in range(60):
        drawn = rng.integers(0, N_CELLS, n)  # as from all cells like them
        every = mean_of_all(moments_of(x[drawn], f[drawn]), own_of(x[drawn]))
        drawn = rng.permutation(N_CELLS)[:n]
        some = mean_of_some(
            moments_of(x[drawn], f[drawn], f0[drawn]), moments_of(x[drawn], f0[drawn]), unperturbed, own
        )
        for name, estimate, error in (
            ("sem", every, every["X"] - mean),
            ("delta_sem", every, every["delta"] - change),
            ("sampling_error", some, some["X"] - mean),
        ):
            shares[name].append(float(np.mean(np.abs(error) <= 2 * estimate[name] + 1e-9)))
    return {name: float(np.mean(found)) for name, found in shares.items()}


@pytest.mark.parametrize("case", CASES)
def test_two_standard_errors_cover_the_truth(case: str) -> None:
    log_rate, network = CASES[case]
    x = draw_cells(log_rate, np.random.default_rng(0))
    shares = {n: covered(network, x, n) for n in (8, 16, 32, 64, 256)}
    print(f"\n{case}: {np.mean(x != 0):.0%} of the values are not zero", *shares.items(), sep="\n")
    every = np.array([list(found.values()) for found in shares.values()])
    assert every.min() >= 0.93
    assert every.mean(axis=0).min() >= 0.95


def test_the_error_of_an_estimate_for_all_cells_like_these_holds_too() -> None:
    """`sem` of the estimator, over populations of 128 cells of which 16 are predicted."""
    rng = np.random.default_rng(0)
    x = draw_cells(-2.0, rng)
    f0, f = mixing(x, 0), mixing(x, 1)
    shares = {"sem": [], "delta_sem": []}
    for _ in range(100):
        population = rng.integers(0, N_CELLS, 128)
        drawn = population[:16]
        estimate = mean_of_some(
            moments_of(x[drawn], f[drawn], f0[drawn]),
            moments_of(x[drawn], f0[drawn]),
            moments_of(x[population], f0[population]),
            own_of(x[population]),
        )
        for name, error in (
            ("sem", estimate["X"] - f.mean(axis=0)),
            ("delta_sem", estimate["delta"] - (f - x).mean(axis=0)),
        ):
            shares[name].append(np.mean(np.abs(error) <= 2 * estimate[name]))
    assert all(np.mean(found) >= 0.95 for found in shares.values())


def test_standard_errors_of_well_expressed_genes_are_the_sample_ones() -> None:
    rng = np.random.default_rng(0)
    x = draw_cells(2.0, rng)[:200]
    f = mixing(x, 1)
    found = mean_of_all(moments_of(x, f), own_of(x))
    np.testing.assert_allclose(found["sem"], f.std(axis=0, ddof=1) / np.sqrt(200), rtol=0.01)


def test_all_cells_have_no_sampling_error() -> None:
    x = draw_cells(-2.0, np.random.default_rng(0))[:20]
    f0, f = mixing(x, 0), mixing(x, 1)
    own, unperturbed = own_of(x), moments_of(x, f0)
    some = mean_of_some(moments_of(x, f, f0), unperturbed, unperturbed, own)
    np.testing.assert_allclose(some["X"], f.mean(axis=0), rtol=1e-6)
    assert some["sampling_error"].max() == 0


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    offset=st.sampled_from([0.0, -3.0, 1e3, 1e6]),
    spread=st.sampled_from([1e-3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_batches_of_any_size_give_numpys_moments(sizes: list[int], offset: float, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [rng.normal(offset, spread, (size, 3)) for size in sizes]
    moments = RunningMoments()
    for batch in batches:
        moments.add(batch)
    rows = np.concatenate(batches)
    assert moments.n == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-13, atol=1e-13)
    if len(rows) > 1:
        # float64 holds the offset to 2e-16 of it, and two-pass numpy loses as much
        found = np.sqrt(moments.var())
        np.testing.assert_allclose(found, rows.std(axis=0, ddof=1), rtol=1e-9, atol=4e-15 * abs(offset))
