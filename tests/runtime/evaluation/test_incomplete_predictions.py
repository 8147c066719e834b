"""Predictions in a .zarr directory of which files were lost are refused, never read as zeros."""

from __future__ import annotations

from pathlib import Path

import pytest

from scgenept_rt.errors import CellsFormatError, PredictionFileError
from scgenept_rt.evaluation import read_predictions

LOST = ("X", "layers/delta", "obs/n_controls", "obs/condition", "var/gene_name")


@pytest.fixture
def means(model, make_cells, tmp_path) -> Path:
    pytest.importorskip("zarr", reason="the extra zarr is not installed")
    model.predict_file(make_cells(20), tmp_path / "means.zarr", model.gene_names[:4])
    return tmp_path / "means.zarr"


def lose_chunks(array: Path) -> None:
    files = [file for file in array.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr"))]
    assert files
    for file in files:
        file.unlink()


@pytest.mark.parametrize("array", LOST)
def test_means_with_absent_chunks_are_refused(means, array):
    assert len(read_predictions(means).labels) == 4
    lose_chunks(means / array)
    with pytest.raises((PredictionFileError, CellsFormatError)):
        read_predictions(means)


def test_cells_with_absent_chunks_are_refused(model, make_cells, tmp_path):
    pytest.importorskip("zarr", reason="the extra zarr is not installed")
    (out,) = model.predict_file(make_cells(5), tmp_path / "cells.zarr", model.gene_names[:2], aggregate="cells")
    assert len(read_predictions(out).labels) == 2
    lose_chunks(out / "X")
    with pytest.raises(PredictionFileError):
        read_predictions(out)
