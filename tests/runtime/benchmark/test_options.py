from __future__ import annotations

from typing import Any

import pytest

from scgenept_rt.benchmark import BenchmarkOptionError, BenchmarkOptions


@pytest.mark.parametrize(
    "wrong", [{"batch_sizes": (1, 0)}, {"batch_sizes": ()}, {"n_genes": 0}, {"repeats": -1}, {"precisions": ()}]
)
def test_options_without_sense_are_refused(wrong: dict[str, Any]):
    with pytest.raises(BenchmarkOptionError, match="Expected"):
        BenchmarkOptions(**wrong)


def test_defaults_depend_on_the_provider():
    options = BenchmarkOptions()
    assert (options.batch_sizes_on("cpu"), options.repeats_on("cpu")) == ((1, 4), 5)
    assert (options.batch_sizes_on("cuda"), options.repeats_on("cuda")) == ((1, 8, 32), 20)
    assert BenchmarkOptions(batch_sizes=(8, 1, 8)).batch_sizes_on("cuda") == (1, 8)
