"""Options are declared once, and checked the same way wherever they are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import ArgumentError
from scgenept_rt.options import EngineOptions, PredictFileOptions, PredictOptions, declared_options, resolve

MakeCells = Callable[..., anndata.AnnData]


@pytest.mark.parametrize("group", [EngineOptions, PredictFileOptions])
def test_defaults_are_valid_and_complete(group: type) -> None:
    resolved: dict[str, Any] = dict(resolve(group))
    assert resolved == {option.name: option.default for option in declared_options(group)}
    assert resolve(group, resolved) == resolved


@pytest.mark.parametrize(
    ("group", "given", "message"),
    [
        (EngineOptions, {"precision": "int8"}, r"precision is 'int8' \(str\), expected one of auto, fp32, fp16"),
        (EngineOptions, {"tolerance": 1}, "no option 'tolerance'. Choose among provider, precision"),
        (PredictOptions, {"seed": -1}, "seed is -1 .* expected a whole number from 0 to 4294967295"),
        (PredictOptions, {"n_controls": True}, "n_controls is True"),
        (PredictOptions, {"max_error": 0.0}, "max_error is 0.0 .* expected a finite number above 0, or None"),
        (PredictOptions, {"max_error": 0.1, "aggregate": "both"}, "Pass aggregate='mean' to use max_error"),
        (PredictFileOptions, {"overwrite": 1}, "overwrite is 1"),
        (PredictOptions, {"missing_genes": "zero"}, "there is no option .*Pass read=ReadOptions\\(missing_genes="),
    ],
)
def test_wrong_values_are_named_with_what_was_expected(group: type, given: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        resolve(group, given)


def test_numbers_of_numpy_become_plain_ones() -> None:
    given = {"seed": np.uint8(3), "max_error": np.float32(0.5), "n_controls": np.int64(9)}
    resolved = resolve(PredictOptions, given)
    assert [type(resolved[name]) for name in given] == [int, float, int]
    assert resolve(PredictFileOptions, {"resume": np.True_})["resume"] is True


def test_every_way_to_predict_checks_its_options(
    model: sgr.Predictor, bundle: Path, make_cells: MakeCells, tmp_path: Path
) -> None:
    cells, wrong = make_cells(2), {"batch_size": 0}
    calls: list[Callable[..., Any]] = [
        lambda **options: model.predict(cells, "YFU19", **options),
        lambda **options: model.iter_predict(cells, "YFU19", **options),
        lambda **options: model.predict_file(cells, tmp_path / "out.h5ad", "YFU19", **options),
        lambda **options: model.predict_array(cells.X, "YFU19", **options),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match="batch_size is 0"):
            call(**wrong)
    with pytest.raises(ArgumentError, match="threads is 0"):
        sgr.load(bundle, threads=0)
    assert not list(tmp_path.iterdir())
