from __future__ import annotations

import numpy as np
import pytest

from scgenept_rt.errors import ControlCellsError
from scgenept_rt.expression import Sampling
from tests.runtime.expression.inputs import cells, log1p_values, read


def test_upstream_sampling_draws_what_the_published_code_drew():
    # Recorded from pred_perturb_from_ctrl after np.random.seed(123), 6 control cells, pool_size None and 5.
    assert Sampling("upstream", seed=123).draw(6).tolist() == [5, 2, 4, 2, 1, 3]
    assert Sampling("upstream", n_controls=5, seed=123).draw(6).tolist() == [5, 2, 4, 2, 1]
    assert len(Sampling("upstream", n_controls=10).draw(3)) == 10


def test_upstream_sampling_repeats_cells_in_draw_order():
    x = log1p_values(n_obs=6)
    control = read(cells(x, conditions=False), sampling=Sampling("upstream", seed=123))
    assert list(control.obs_names) == ["cell5", "cell2", "cell4", "cell2", "cell1", "cell3"]
    np.testing.assert_array_equal(control.values.dense(0, 6), x[[5, 2, 4, 2, 1, 3]].astype(np.float32))
    assert control.n_available == 6


def test_sampling_without_replacement():
    drawn = Sampling("random", n_controls=20, seed=4).draw(50)
    assert len(set(drawn.tolist())) == 20
    assert drawn.tolist() != sorted(drawn.tolist())
    assert Sampling("random", n_controls=7, seed=4).draw(50).tolist() == drawn[:7].tolist()
    assert Sampling("random", n_controls=20, seed=5).draw(50).tolist() != drawn.tolist()
    assert Sampling("all", n_controls=20, seed=4).draw(50).tolist() == sorted(drawn.tolist())
    assert sorted(Sampling("random", seed=4).draw(50).tolist()) == list(range(50))
    assert Sampling("all", seed=4).draw(50).tolist() == list(range(50))


@pytest.mark.parametrize("mode", ["all", "random"])
def test_more_cells_than_there_are(mode):
    with pytest.raises(ControlCellsError, match="11 control cells were asked for, but the input has 10"):
        read(cells(log1p_values()), sampling=Sampling(mode, n_controls=11))
