from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scgenept_rt.predictor.moments import RunningMoments


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    offset=st.sampled_from([0.0, -3.0, 1e3, 1e6]),
    spread=st.sampled_from([1e-3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_blocks_of_any_size_give_numpys_moments(sizes: list[int], offset: float, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(offset, spread, (size, 3)) for size in sizes]
    moments = RunningMoments()
    for block in blocks:
        moments.add(block)
    rows = np.concatenate(blocks)
    assert moments.n == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-13, atol=1e-13)
    if len(rows) > 1:
        # float64 holds the offset to 2e-16 of it, and two-pass numpy loses as much
        found = np.sqrt(moments.var())
        np.testing.assert_allclose(found, rows.std(axis=0, ddof=1), rtol=1e-9, atol=4e-15 * abs(offset))
